//! What the member writes about itself: the log, and traces if somebody receives them.
//!
//! The log goes to standard error, as text or as one JSON object a line. With `--otlp-endpoint` every stage of the
//! pipeline is a span, and a call that brings a W3C `traceparent` along continues that trace.

use std::io::IsTerminal;

use meridian_raft::trace::{self, Wire};
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::settings::Settings;

/// Why nothing can be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is neither a word nor a filter.
    #[error("--log-level: {level:?}: {source}")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The receiver of traces can not be used.
    #[error("--otlp-endpoint: {endpoint:?}: {what}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something else in this process writes already.
    #[error("the log is in use already: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps traces flowing; what is buffered is sent when it is dropped.
#[derive(Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            // The receiver may be gone; the member does not wait for it.
            let _ = provider.shutdown();
        }
    }
}

/// Begins to write. Once per process; inside the runtime if there is a receiver of traces.
pub fn start(settings: &Settings) -> Result<Telemetry, TelemetryError> {
    let level = &settings.log.level;
    let filter = EnvFilter::try_new(with_quiet_libraries(level)).map_err(|source| {
        TelemetryError::Level {
            level: level.clone(),
            source,
        }
    })?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if settings.log.format == "json" {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    let provider = provider(settings)?;
    let traces = provider.as_ref().map(|provider| {
        // The stages are spans of level debug: without a receiver they cost nothing.
        let ours = [
            "meridian",
            "meridian_node",
            "meridian_raft",
            "meridian_storage",
        ];
        let targets = Targets::new().with_targets(ours.map(|name| (name, tracing::Level::DEBUG)));
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("meridian"))
            .with_filter(targets)
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(traces)
        .try_init()?;
    Ok(Telemetry { provider })
}

/// A plain level is meant for us; libraries say what is wrong and no more.
fn with_quiet_libraries(level: &str) -> String {
    let plain = level.chars().all(|letter| letter.is_ascii_alphabetic());
    if plain {
        format!(
            "{level},h2=warn,hyper=warn,hyper_util=warn,tower=warn,rustls=warn,sled=warn,openraft=error"
        )
    } else {
        level.to_owned()
    }
}

fn provider(settings: &Settings) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let endpoint = &settings.log.otlp_endpoint;
    if endpoint.is_empty() {
        return Ok(None);
    }
    let wrong = |what: String| TelemetryError::Endpoint {
        endpoint: endpoint.clone(),
        what,
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name("meridian")
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            settings.name.clone(),
        ))
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    trace::install(Wire { name, follow });
    // Spans wait in a bounded queue; what does not fit is dropped and counted by the library.
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Continues the trace a call brought along, if it did.
pub fn continue_trace(span: &Span, headers: &http::HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent =
            global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        // Without a receiver there is no trace to continue.
        let _ = span.set_parent(parent);
    }
}

/// What the other members call a span of this one; none if it is not recorded.
fn name(span: &Span) -> Option<String> {
    let mut name = Name(None);
    global::get_text_map_propagator(|wire| wire.inject_context(&span.context(), &mut name));
    name.0
}

/// Makes a span the child of one that was named by another member.
fn follow(span: &Span, name: &str) {
    let name = Name(Some(name.to_owned()));
    let parent = global::get_text_map_propagator(|wire| wire.extract(&name));
    let _ = span.set_parent(parent);
}

/// The one field of W3C's that names a span.
struct Name(Option<String>);

impl Name {
    const KEY: &str = "traceparent";
}

impl Injector for Name {
    fn set(&mut self, key: &str, value: String) {
        if key == Self::KEY {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Name {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == Self::KEY)
    }

    fn keys(&self) -> Vec<&str> {
        vec![Self::KEY]
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_ours_and_a_filter_is_taken_as_it_is() {
        assert!(with_quiet_libraries("info").starts_with("info,"));
        assert_eq!(
            with_quiet_libraries("meridian_raft=debug"),
            "meridian_raft=debug"
        );
        assert!(EnvFilter::try_new(with_quiet_libraries("debug")).is_ok());
    }
}
