//! What went wrong, for the person or program that typed the command: text, next step, exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use meridian_client::{Error, Kind};
use serde_json::json;

use super::out::Form;

/// Why a command did not work. The exit codes are documented in [`super::EXIT_CODES`].
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
    /// The error of the client, for programs.
    error: Option<Error>,
    /// Whoever read the output went away: nobody is there to be told.
    unheard: bool,
}

impl Failure {
    fn of(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            error: None,
            unheard: false,
        }
    }

    /// It was refused here, or failed.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::of(1, message)
    }

    /// The command can not be understood.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::of(2, message)
    }

    /// What was named does not exist.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::of(3, message)
    }

    /// The operating system refused something.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        Self::of(1, format!("{what}: {error}"))
    }

    /// Adds what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[cfg(test)]
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// As a program sees it.
    fn to_json(&self) -> serde_json::Value {
        let error = self.error.as_ref();
        json!({"error": {
            "message": self.message,
            "code": error.and_then(Error::code),
            "hint": self.hint,
            "operation": error.map(Error::operation),
            "endpoint": error.and_then(Error::endpoint),
            "retryable": error.is_some_and(Error::is_retryable),
            "outcome_unknown": error.is_some_and(Error::outcome_unknown),
            "exit_code": self.code,
        }})
    }

    /// As a person sees it.
    fn to_text(&self, colours: bool) -> String {
        let (red, bold, plain) = if colours {
            ("\x1b[31m", "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{red}Error:{plain} {}\n", self.message);
        if let Some(hint) = &self.hint {
            for (n, line) in hint.lines().enumerate() {
                let label = if n == 0 {
                    format!("{bold}Next:{plain} ")
                } else {
                    " ".repeat(6)
                };
                text.push_str(&label);
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Tells standard error and gives the exit code.
    pub(super) fn report(&self, form: Option<Form>) -> ExitCode {
        if !self.unheard {
            let mut stderr = io::stderr().lock();
            let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let text = match form {
                Some(Form::Json) => format!("{}\n", self.to_json()),
                _ => self.to_text(colours),
            };
            // If standard error is gone too, the exit code says enough.
            let _ = stderr.write_all(text.as_bytes());
        }
        ExitCode::from(self.code)
    }
}

/// Output that could not be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                unheard: true,
                ..Self::of(0, "")
            };
        }
        Self::io("can not write the output", &error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            _ if error.outcome_unknown() => 5,
            Kind::Misuse => 2,
            Kind::NotFound => 3,
            Kind::Unavailable | Kind::TimedOut | Kind::Busy => 4,
            _ => 1,
        };
        let hint = error
            .hint()
            .map(str::to_owned)
            .or_else(|| next_step(&error));
        Self {
            code,
            message: error.to_string(),
            hint,
            error: Some(error),
            unheard: false,
        }
    }
}

/// What to do about an error where the server did not say it.
fn next_step(error: &Error) -> Option<String> {
    let endpoint = error.endpoint().unwrap_or("the endpoint");
    let never_arrived = error.message().starts_with("can not connect");
    let text = error.message();
    Some(match error.kind() {
        Kind::Unavailable if text.contains("certificate") || text.contains("UnknownIssuer") => {
            "give the authority that signed the members' certificates with --cacert, and your own \
             certificate with --cert and --key if members ask for one"
                .into()
        }
        Kind::Unavailable if never_arrived => format!(
            "start a node with `meridian dev`, or name running members with --endpoints \
             or MERIDIAN_ENDPOINTS\n(nothing answers at {endpoint}; use https:// and --cacert if it \
             speaks TLS)"
        ),
        _ if error.outcome_unknown() => {
            "read what you wanted to write before you repeat it: it may have happened".into()
        }
        Kind::Unavailable => format!(
            "see `meridian status --endpoints {endpoint}`; without a majority of members nothing \
             can be written"
        ),
        Kind::TimedOut => "see `meridian status`, or allow more time with --timeout".into(),
        Kind::Misuse if text.contains("authority") => {
            "give it with --cacert, or use http:// if the member does not speak TLS".into()
        }
        Kind::Compacted {
            compacted: Some(revision),
        } => {
            format!("begin at revision {revision} or later, for example with --rev {revision}")
        }
        Kind::Compacted { compacted: None } => {
            "the history before the last compaction is gone; read a newer revision".into()
        }
        Kind::Unsupported => format!(
            "{endpoint} runs an older version or another server than Meridian; see `meridian status`"
        ),
        Kind::QuotaExceeded => "delete keys and compact, or raise the quota; then see \
                                `meridian alarm list`"
            .into(),
        Kind::NotFound => match error.code() {
            Some("LEASE_NOT_FOUND") => "see `meridian lease list`".into(),
            Some("MEMBER_NOT_FOUND") => "see `meridian member list`".into(),
            Some("TENANT_NOT_FOUND") => {
                "see `meridian tenant list`, or make it with `meridian tenant create`".into()
            }
            _ => return None,
        },
        Kind::Damaged => "run the command again; if it fails again, ask another member".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_happened_and_what_to_do_next() {
        let failure = Failure::not_found("no such thing").hint("make one\nor not");
        assert_eq!(
            failure.to_text(false),
            "Error: no such thing\nNext: make one\n      or not\n"
        );
        assert!(failure.to_text(true).contains("\x1b[31mError:"));
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let failure = Failure::refused("no").hint("yes");
        let value = failure.to_json();
        assert_eq!(value["error"]["message"], "no");
        assert_eq!(value["error"]["hint"], "yes");
        assert_eq!(value["error"]["exit_code"], 1);
        assert_eq!(value["error"]["outcome_unknown"], false);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.code(), 0);
        assert!(failure.unheard);
    }
}
