//! Passwords: hashed and compared, slowly on purpose, on threads of their own.
//!
//! ```text
//!   login, user add  --queue (QUEUE)-->  [thread] .. at most half the cores, niced  -->  answer
//! ```
//!
//! Argon2id with 19 MiB, two passes, one lane (OWASP's least). So many at a time as there are threads; when the queue
//! is full a login is refused at once: it is the only work strangers can ask for that is expensive, and it must not
//! take the member from those who are known. Threads are started by the first who needs one.
//!
//! A user that does not exist costs the same as one that does.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Passwords that wait to be looked at.
pub const QUEUE: usize = 64;
/// The longest password, in bytes.
pub const BYTES_MAX: usize = 1024;
/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
const PASSES: u32 = 2;
/// What is added to the nice value of the threads.
const NICE: i32 = 5;
/// What passwords of users that do not exist are held against. Nobody knows one that fits.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bWVyaWRpYW4tbm9ib2R5cw$\
                       0Q5dE0q1Yk1V3nq0yq4t8m9b2c7l6k5j4h3g2f1e0dA";

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Too many wait already.
    Full,
    /// The threads are gone, or the library refused.
    Broken,
}

/// The threads. Cheap while nobody needs them.
#[derive(Default)]
pub struct Passwords {
    jobs: OnceLock<SyncSender<Job>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Passwords {
    /// The hash of a new password, as it is kept.
    pub async fn hash(&self, password: String) -> Result<Box<str>, Trouble> {
        self.run(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>());
            let salt = salt.map_err(|_| Trouble::Broken)?;
            let hash = argon2()?.hash_password(password.as_bytes(), &salt);
            Ok(hash.map_err(|_| Trouble::Broken)?.to_string().into())
        })
        .await
    }

    /// Whether a password fits what is kept; `kept` is none for somebody who does not exist or has none. `still`
    /// is asked once more when it is its turn.
    pub async fn fits(
        &self,
        password: String,
        kept: Option<Box<str>>,
        still: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<Option<bool>, Trouble> {
        self.run(move || {
            if !still() {
                return Ok(None);
            }
            let exists = kept.is_some();
            let kept = kept.as_deref().unwrap_or(NOBODYS);
            let kept = PasswordHash::new(kept).map_err(|_| Trouble::Broken)?;
            let verified = argon2()?.verify_password(password.as_bytes(), &kept);
            Ok(Some(verified.is_ok() && exists))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever gave up waiting does not cost the work.
            if !done.is_closed() {
                let _ = done.send(work());
            }
        });
        match self.jobs.get_or_init(start).try_send(job) {
            Ok(()) => answer.await.unwrap_or(Err(Trouble::Broken)),
            Err(TrySendError::Full(_)) => Err(Trouble::Full),
            Err(TrySendError::Disconnected(_)) => Err(Trouble::Broken),
        }
    }
}

fn start() -> SyncSender<Job> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (jobs, queue) = sync_channel(QUEUE);
    let queue = Arc::new(Mutex::new(queue));
    for n in 0..(cores / 2).max(1) {
        let queue = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name(format!("password-{n}"));
        if let Err(error) = thread.spawn(move || serve(&queue)) {
            tracing::warn!(%error, "a thread for passwords could not be started");
        }
    }
    jobs
}

/// Ends when the member does.
fn serve(queue: &Mutex<Receiver<Job>>) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "a thread for passwords keeps its priority");
    }
    loop {
        let next = queue.lock().recv();
        let Ok(job) = next else { return };
        job();
    }
}

fn argon2() -> Result<Argon2<'static>, Trouble> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|_| Trouble::Broken)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let passwords = Passwords::default();
        let kept = passwords.hash("right".into()).await.unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        let fits = async |password: &str, kept: Option<Box<str>>| {
            passwords.fits(password.into(), kept, || true).await
        };
        assert_eq!(fits("right", Some(kept.clone())).await, Ok(Some(true)));
        assert_eq!(fits("wrong", Some(kept.clone())).await, Ok(Some(false)));
        assert_eq!(fits("right", None).await, Ok(Some(false)));
        let broken = Some("no hash".into());
        assert_eq!(fits("right", broken).await, Err(Trouble::Broken));
        let again = passwords.fits("right".into(), Some(kept), || false).await;
        assert_eq!(again, Ok(None));
    }

    #[test]
    fn what_nobody_is_held_against_costs_as_much_as_any() {
        let nobodys = PasswordHash::new(NOBODYS).unwrap();
        let params = Params::try_from(&nobodys).unwrap();
        assert_eq!((params.m_cost(), params.t_cost()), (MEMORY_KIB, PASSES));
        assert!(argon2().unwrap().verify_password(b"", &nobodys).is_err());
    }

    #[tokio::test]
    async fn beyond_the_queue_a_password_is_refused_at_once() {
        let passwords = Arc::new(Passwords::default());
        let tries: Vec<_> = (0..QUEUE * 3)
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                tokio::spawn(async move { passwords.fits("x".into(), None, || false).await })
            })
            .collect();
        let hold = passwords.hash("slow".into()).await;
        assert!(matches!(hold, Ok(_) | Err(Trouble::Full)));
        let mut answered = 0;
        for tried in tries {
            let tried = tried.await.unwrap();
            assert!(matches!(tried, Ok(None) | Err(Trouble::Full)));
            answered += usize::from(tried.is_ok());
        }
        assert!(answered > 0);
    }
}
