//! How much may be in flight while several tenants write: as much as leaves writes about as quick as they can be.
//!
//! ```text
//!   floor      what a write took when there was least to do; forgotten slowly, so that a slower disk is learned
//!   smoothed   what writes take now
//!   window     after each window of writes:  smoothed <= floor * 1.25  ->  one more
//!                                            else                      ->  a fifth less
//! ```
//!
//! What is in flight queues somewhere: in the log, on the disk, on the processor. No constant fits every machine, so
//! the delay itself says when it is too much (as in TCP Vegas). While one tenant writes alone nobody is kept waiting
//! and the window stays as it was.

use std::time::Duration;

/// The window to begin with, and after a long time alone.
const BEGIN: f64 = 16.0;
/// The most there is ever in flight while several tenants write.
pub const WINDOW_MAX: usize = 256;
/// How much slower than the floor writes may become.
const SLACK: f64 = 1.25;
/// What is left of the window when they are slower.
const LESS: f64 = 0.8;
/// How much of the newest duration goes into the smoothed one.
const NEWEST: f64 = 1.0 / 16.0;
/// How fast the floor is forgotten, for each second.
const FORGET_PER_SECOND: f64 = 1.001;

/// The window, and what it is judged by. Durations in seconds.
#[derive(Debug)]
pub struct Pace {
    window: f64,
    floor: f64,
    smoothed: f64,
    /// Writes finished since the window was last judged.
    finished: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window: BEGIN,
            floor: f64::INFINITY,
            smoothed: 0.0,
            finished: 0,
        }
    }
}

impl Pace {
    /// How much all tenants together may have in flight.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// Takes in how long a write took, from its place in the window to its outcome.
    pub fn finished(&mut self, took: Duration, tenants: usize) {
        let took = took.as_secs_f64();
        self.smoothed = if self.smoothed == 0.0 {
            took
        } else {
            self.smoothed + (took - self.smoothed) * NEWEST
        };
        self.floor = self.floor.min(self.smoothed);
        if tenants < 2 {
            return;
        }
        self.finished += 1;
        if self.finished < self.window() {
            return;
        }
        self.finished = 0;
        if self.smoothed <= self.floor * SLACK {
            self.window = (self.window + 1.0).min(WINDOW_MAX as f64);
        } else {
            self.window = (self.window * LESS)
                .max(tenants as f64)
                .min(WINDOW_MAX as f64);
        }
    }

    /// Lets time pass.
    pub fn forget(&mut self, passed: Duration) {
        if self.floor.is_finite() {
            self.floor *= FORGET_PER_SECOND.powf(passed.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member whose writes take a millisecond each while no more than `room` are in flight, and queue beyond.
    fn took(in_flight: usize, room: usize) -> Duration {
        Duration::from_micros((1000 * in_flight.max(room) / room) as u64)
    }

    fn settle(pace: &mut Pace, room: usize, tenants: usize, writes: usize) {
        for _ in 0..writes {
            let in_flight = pace.window();
            pace.finished(took(in_flight, room), tenants);
        }
    }

    #[test]
    fn the_window_finds_the_room_there_is() {
        for room in [4, 20, 100] {
            let mut pace = Pace::default();
            pace.finished(Duration::from_millis(1), 1);
            settle(&mut pace, room, 2, 40_000);
            let (least, most) = (room / 2, room * 2);
            assert!((least..=most).contains(&pace.window()), "{room}: {pace:?}");
        }
    }

    #[test]
    fn a_machine_that_becomes_slower_for_good_is_learned() {
        let mut pace = Pace::default();
        settle(&mut pace, 20, 2, 10_000);
        for _ in 0..4 * 3600 {
            pace.forget(Duration::from_secs(1));
            for _ in 0..4 {
                pace.finished(took(pace.window(), 20) * 3, 2);
            }
        }
        assert!(pace.window() > 8, "{pace:?}");
    }

    #[test]
    fn every_tenant_keeps_a_place_and_the_window_a_bound() {
        let mut pace = Pace::default();
        pace.finished(Duration::from_millis(1), 1);
        for _ in 0..10_000 {
            pace.finished(Duration::from_secs(1), 7);
        }
        assert_eq!(pace.window(), 7);
        let mut pace = Pace::default();
        for _ in 0..1_000_000 {
            pace.finished(Duration::from_millis(1), 2);
        }
        assert_eq!(pace.window(), WINDOW_MAX);
    }
}
