//! A file with an ID token, as clients of AWS, Google Cloud and Azure read it: written whole, and kept fresh for a job that lives
//! longer than one token.
//!
//! Those clients read the file again whenever their own credentials run out, at a time that we do not know. What lies there has to
//! be good for a while at every moment, so that it is renewed when a third of its life is left.

use std::path::Path;
use std::time::Duration;

use countersign_domain::values::time::{Clock, Timestamp};
use countersign_runtime::disclosure::FileName;
use tokio::time::{Instant, sleep};

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::private_file;
use crate::token_claims::unverified_claims;

/// How soon a renewal that failed is tried again at first; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Timers stand still while a machine sleeps, so that a long wait looks at the clock in between.
const LOOK: Duration = Duration::from_secs(10);

/// Replaces the file with the issued token alone, mode 0600. No line feed follows it: some readers pass on what they read as it is.
/// Whether the file can be written is tried before a token is issued for it.
///
/// # Errors
/// The token cannot be issued, or the file cannot be written.
pub(super) async fn write(path: &Path, issue: impl AsyncFnOnce() -> Result<String>) -> Result<String> {
    let failed = |error| Failure::while_doing(error, format!("cannot write --to {}", FileName(path)));
    let place = private_file::reserve(path).map_err(failed)?;
    let token = issue().await?;
    place.write(token.as_bytes()).map_err(failed)?;
    Ok(token)
}

/// Keeps the file fresh, until it cannot be.
///
/// # Errors
/// The first token could not be had or written; or a renewal failed, and so did its repetitions until the token in the file expired.
pub(super) async fn keep_fresh(
    path: &Path,
    clock: &dyn Clock,
    output: &mut Output,
    issue: impl AsyncFn() -> Result<String>,
) -> Result<()> {
    let renew = async || {
        let asked = Moment::now(clock);
        let token = write(path, &issue).await?;
        Ok::<_, Failure>((asked, lifetime(&token)?))
    };
    let (mut asked, mut lifetime) = renew().await?;
    output.message(format!("{} contains a token that lives {} s, and is kept fresh", FileName(path), lifetime.as_secs()));
    loop {
        asked.has_age(lifetime.mul_f64(2.0 / 3.0).max(FIRST_RETRY), clock).await;
        let mut retry = FIRST_RETRY;
        (asked, lifetime) = loop {
            let failure = match renew().await {
                Ok(renewed) => break renewed,
                Err(failure) => failure,
            };
            let age = asked.age(clock);
            if age + retry >= lifetime {
                return Err(failure);
            }
            output.message(format!("{failure}\nTrying again in {} s; the token in the file is still valid.", retry.as_secs()));
            asked.has_age(age + retry, clock).await;
            retry = LONGEST_RETRY.min(retry * 2);
        };
    }
}

/// How long the issuer says that the token lives. Both claims are the issuer's, so that our own clock may be wrong.
fn lifetime(token: &str) -> Result<Duration> {
    let claims = unverified_claims(token).map_err(|error| Failure::while_doing(error, "cannot tell when to renew"))?;
    let time = |name| claims.get(name).and_then(serde_json::Value::as_u64);
    let lifetime = time("exp").zip(time("iat")).and_then(|(expires, issued)| expires.checked_sub(issued));
    lifetime
        .map(Duration::from_secs)
        .ok_or_else(|| Failure::Failed(anyhow::anyhow!("cannot tell when to renew: the token does not say how long it lives")))
}

/// A moment in the past, by the timer and by the clock.
#[derive(Debug, Clone, Copy)]
struct Moment {
    timer: Instant,
    clock: Timestamp,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self { timer: Instant::now(), clock: clock.now() }
    }

    /// How long ago it is. The clock may have been set back, and the timer have stood still: the longer of both.
    fn age(self, clock: &dyn Clock) -> Duration {
        let by_clock = Duration::try_from(clock.now().duration_since(self.clock)).unwrap_or_default();
        self.timer.elapsed().max(by_clock)
    }

    /// Waits until it is that long ago.
    async fn has_age(self, age: Duration, clock: &dyn Clock) {
        while let Some(rest) = age.checked_sub(self.age(clock)).filter(|rest| !rest.is_zero()) {
            sleep(rest.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::output::tests::Captured;

    /// A clock that runs with the timer, ahead of it by what a machine slept.
    #[derive(Debug)]
    struct Running {
        began: Instant,
        slept: Duration,
        sleeps_at: Duration,
    }

    impl Running {
        fn without_sleep() -> Self {
            Self { began: Instant::now(), slept: Duration::ZERO, sleeps_at: Duration::ZERO }
        }
    }

    impl Clock for Running {
        fn now(&self) -> Timestamp {
            let passed = self.began.elapsed();
            let slept = if passed >= self.sleeps_at { self.slept } else { Duration::ZERO };
            "2027-01-31T17:00:00Z".parse::<Timestamp>().unwrap() + passed + slept
        }
    }

    fn token(lifetime: u64, number: usize) -> String {
        // The issuer's clock is a year behind ours.
        let payload = format!(r#"{{"iat":1769878800,"exp":{},"jti":"{number}"}}"#, 1_769_878_800 + lifetime);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    /// Runs until the answers are used up, and tells at which second each was asked for, and how it ended.
    struct Run {
        asked_at: Vec<u64>,
        failure: Failure,
        content: String,
        messages: String,
    }

    async fn run(answers: &[Option<u64>], clock: &Running) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/id-token");
        let captured = Captured::default();
        let began = Instant::now();
        let asked_at = RefCell::new(Vec::new());
        let issue = async || {
            let number = asked_at.borrow().len();
            asked_at.borrow_mut().push(began.elapsed().as_secs());
            match answers.get(number).copied().flatten() {
                Some(lifetime) => Ok(token(lifetime, number)),
                None => Err(Failure::Failed(anyhow::anyhow!("out of reach"))),
            }
        };
        let failure = keep_fresh(&path, clock, &mut captured.output(), issue).await.unwrap_err();
        if let Ok(file) = std::fs::metadata(&path) {
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
        let content = std::fs::read_to_string(&path).unwrap_or_default();
        Run { asked_at: asked_at.into_inner(), failure, content, messages: captured.messages() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_when_a_third_of_its_life_is_left_however_long_that_is() {
        let run = run(&[Some(900), Some(3600), Some(900)], &Running::without_sleep()).await;
        assert_eq!(run.asked_at[..4], [0, 600, 600 + 2400, 600 + 2400 + 600]);
        assert_eq!(run.content, token(900, 2), "the last one, and nothing behind it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_is_tried_again_ever_more_slowly_until_the_token_in_the_file_expires() {
        let run = run(&[Some(300)], &Running::without_sleep()).await;
        assert_eq!(run.asked_at, [0, 200, 201, 203, 207, 215, 231, 261, 291]);
        assert!(run.failure.to_string().contains("out of reach"));
        assert!(run.messages.contains("Trying again in 30 s"), "{}", run.messages);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_comes_back_in_time_is_never_noticed_by_the_reader() {
        let run = run(&[Some(300), None, None, Some(300)], &Running::without_sleep()).await;
        assert_eq!(run.asked_at[..5], [0, 200, 201, 203, 403]);
        assert_eq!(run.content, token(300, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_first_token_nothing_is_written_or_tried_again() {
        let run = run(&[], &Running::without_sleep()).await;
        assert_eq!((run.asked_at.len(), run.content.as_str()), (1, ""));
    }

    #[tokio::test]
    async fn no_token_is_issued_for_a_file_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id-token");
        std::fs::create_dir(&path).unwrap();
        let failure = write(&path, async || panic!("issued")).await.unwrap_err().to_string();
        assert!(failure.contains("cannot write --to"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_machine_slept_counts() {
        let clock = Running { slept: Duration::from_secs(500), sleeps_at: Duration::from_secs(95), ..Running::without_sleep() };
        let run = run(&[Some(600), Some(600)], &clock).await;
        assert_eq!(run.asked_at[..2], [0, 100], "at the first look at the clock after waking up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_no_length_does_not_have_the_issuer_asked_without_end() {
        let run = run(&[Some(0), Some(0)], &Running::without_sleep()).await;
        assert_eq!(run.asked_at, [0, 1, 2]);
    }

    #[test]
    fn a_life_is_counted_between_two_claims_of_the_issuer() {
        assert_eq!(lifetime(&token(900, 0)).unwrap(), Duration::from_mins(15));
        let of = |payload: &str| lifetime(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))).ok();
        assert_eq!(of(r#"{"iat":10,"exp":5}"#), None);
        assert_eq!(of(r#"{"exp":5}"#), None);
        assert_eq!(of(r#"{"iat":"0","exp":5}"#), None);
    }
}
