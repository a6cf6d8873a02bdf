//! Faults of processes: killed, stopped, all at once; from a seed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::world::{State, World, WorldError};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a member, started again after a while.
    Kill {
        /// Which; none means whoever leads.
        member: Option<usize>,
        /// For how long it stays dead.
        dead: Duration,
    },
    /// SIGSTOP of a member for a while.
    Pause {
        /// Which; none means whoever leads.
        member: Option<usize>,
        /// For how long.
        paused: Duration,
    },
    /// `kill -9` of all members at once.
    KillAll {
        /// For how long they stay dead.
        dead: Duration,
    },
}

/// Draws the next fault and the quiet before it.
pub fn draw(random: &mut StdRng, members: usize) -> (Duration, Fault) {
    let quiet = Duration::from_millis(random.random_range(500..4_000));
    let some = random.random_range(0..members.max(1));
    let fault = match random.random_range(0..100) {
        0..=29 => Fault::Kill {
            member: None,
            dead: ms(random, 200, 4_000),
        },
        30..=54 => Fault::Kill {
            member: Some(some),
            dead: ms(random, 200, 6_000),
        },
        55..=74 => Fault::Pause {
            member: None,
            paused: ms(random, 100, 5_000),
        },
        75..=89 => Fault::Pause {
            member: Some(some),
            paused: ms(random, 100, 8_000),
        },
        _ => Fault::KillAll {
            dead: ms(random, 100, 1_500),
        },
    };
    (quiet, fault)
}

fn ms(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

/// Makes a fault happen and mends it.
pub async fn inflict(world: &mut World, fault: Fault) -> Result<(), WorldError> {
    match fault {
        Fault::Kill { member, dead } => {
            let Some(i) = pick(world, member).await else {
                return Ok(());
            };
            world.kill(i);
            tokio::time::sleep(dead).await;
            world.start_member(i)
        }
        Fault::Pause { member, paused } => {
            let Some(i) = pick(world, member).await else {
                return Ok(());
            };
            world.stop(i);
            tokio::time::sleep(paused).await;
            world.go_on(i);
            Ok(())
        }
        Fault::KillAll { dead } => {
            (0..world.len()).for_each(|i| world.kill(i));
            tokio::time::sleep(dead).await;
            heal(world)
        }
    }
}

/// Lets every member run.
pub fn heal(world: &mut World) -> Result<(), WorldError> {
    for i in 0..world.len() {
        match world.state(i) {
            State::Running => {}
            State::Stopped => world.go_on(i),
            State::Dead => world.start_member(i)?,
        }
    }
    Ok(())
}

async fn pick(world: &mut World, member: Option<usize>) -> Option<usize> {
    match member {
        Some(i) => Some(i),
        None => world.leader().await,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_faults() {
        let drawn = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..50).map(|_| draw(&mut random, 3)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }
}
