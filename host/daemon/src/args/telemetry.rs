//! Flags about what the process tells of itself: its log, its admin endpoint, its traces. They concern the process, not the
//! host in it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::logging::LogFormat;
use crate::telemetry::{OtlpOptions, TelemetryOptions};

/// The fields that each request to a collector carries: `name=value` with commas between, values percent-encoded. An
/// environment variable and no flag, since every process of a machine can read flags.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// `true` switches off whatever else is said about OpenTelemetry.
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// What the process tells of itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// How the log is written [default: human on a terminal, json otherwise]
    #[arg(long, env = "TRELLIS_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Serve /livez, /readyz and /metrics at this address; it asks nobody who they are, so prefer a loopback address
    #[arg(long, env = "TRELLIS_ADMIN_ADDRESS", value_name = "IP:PORT")]
    pub admin_address: Option<SocketAddr>,
    /// Send traces and metrics to this OpenTelemetry collector, by OTLP over HTTP
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub otel_endpoint: Option<String>,
    /// Name of the service in traces and metrics [default: trellis-host]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otel_service_name: Option<String>,
    /// Share of the traces that begin here and are recorded, 0 to 1; one that a caller began keeps the caller's choice [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "SHARE")]
    pub otel_sampling: Option<f64>,
    /// Root certificates to believe of the collector, beside the system's
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otel_ca: Option<PathBuf>,
}

impl TelemetryArgs {
    /// Reads the flags, and tells each mistake.
    pub fn options(&self, mistake: &mut dyn FnMut(String)) -> TelemetryOptions {
        let variable = |name: &str| std::env::var(name).ok();
        self.read(&variable, mistake)
    }

    /// As [`Self::options`], with the environment's variables from elsewhere.
    fn read(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        mistake: &mut dyn FnMut(String),
    ) -> TelemetryOptions {
        let is_disabled =
            variable(DISABLED).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let endpoint = self
            .otel_endpoint
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty() && !is_disabled);
        let otlp = endpoint.and_then(|endpoint| {
            let mut options = OtlpOptions::new(endpoint)
                .map_err(|reason| mistake(format!("--otel-endpoint: {reason}")))
                .ok()?;
            if let Some(name) = self.otel_service_name.as_deref().map(str::trim)
                && !name.is_empty()
            {
                name.clone_into(&mut options.service_name);
            }
            match self.otel_sampling {
                Some(share) if (0.0..=1.0).contains(&share) => options.sampling = share,
                Some(share) => mistake(format!(
                    "--otel-sampling: {share} is no share; give a number from 0 to 1"
                )),
                None => {}
            }
            if let Some(text) = variable(HEADERS)
                && let Err(reason) = options.add_headers(&text)
            {
                mistake(format!("{HEADERS}: {reason}"));
            }
            if let Some(path) = &self.otel_ca
                && let Err(reason) = options.read_ca(path)
            {
                mistake(format!("--otel-ca: {reason}"));
            }
            Some(options)
        });
        TelemetryOptions {
            admin: self.admin_address,
            otlp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &TelemetryArgs, headers: &str) -> (TelemetryOptions, Vec<String>) {
        let mut mistakes = Vec::new();
        let variable = |name: &str| (name == HEADERS).then(|| headers.to_owned());
        let options = args.read(&variable, &mut |mistake| mistakes.push(mistake));
        (options, mistakes)
    }

    #[test]
    fn everything_is_off_where_nothing_is_said() {
        let (options, mistakes) = read(&TelemetryArgs::default(), "a=b");
        assert!(options.admin.is_none() && options.otlp.is_none());
        assert_eq!(mistakes, [""; 0]);
    }

    #[test]
    fn all_mistakes_about_the_collector_are_told_and_no_header_is_repeated() {
        let args = TelemetryArgs {
            otel_endpoint: Some("http://collector:4318".to_owned()),
            otel_sampling: Some(1.5),
            otel_ca: Some("/nowhere/ca.pem".into()),
            ..TelemetryArgs::default()
        };
        let (_, mistakes) = read(&args, "authorization=sec%0aret");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(!mistakes.concat().contains("sec"), "{mistakes:?}");

        for endpoint in ["collector:4318", "ftp://x", "http://user:pass@x", "http://"] {
            let args = TelemetryArgs {
                otel_endpoint: Some(endpoint.to_owned()),
                ..TelemetryArgs::default()
            };
            let (options, mistakes) = read(&args, "");
            assert!(options.otlp.is_none());
            assert!(mistakes[0].starts_with("--otel-endpoint: "), "{mistakes:?}");
            assert!(!mistakes[0].contains("pass@"), "{mistakes:?}");
        }
    }

    #[test]
    fn the_collectors_address_name_and_headers_are_taken() {
        let args = TelemetryArgs {
            otel_endpoint: Some("https://collector.example/base/".to_owned()),
            otel_service_name: Some("edge".to_owned()),
            otel_sampling: Some(0.25),
            ..TelemetryArgs::default()
        };
        let (options, mistakes) = read(&args, "authorization=Bearer%20x, x-tenant=a");
        assert_eq!(mistakes, [""; 0]);
        let otlp = options
            .otlp
            .unwrap_or_else(|| unreachable!("an endpoint was given"));
        assert_eq!(
            otlp.url("/v1/traces"),
            "https://collector.example/base/v1/traces"
        );
        assert_eq!(otlp.service_name, "edge");
        assert!((otlp.sampling - 0.25).abs() < f64::EPSILON);
        assert_eq!(otlp.headers["authorization"], "Bearer x");
        assert_eq!(otlp.headers["x-tenant"], "a");
        assert!(!format!("{otlp:?}").contains("Bearer"));
    }

    #[test]
    fn a_disabled_sdk_sends_nothing_whatever_else_is_said() {
        let args = TelemetryArgs {
            otel_endpoint: Some("http://collector:4318".to_owned()),
            ..TelemetryArgs::default()
        };
        let variable = |name: &str| (name == DISABLED).then(|| "true".to_owned());
        assert!(args.read(&variable, &mut |_| ()).otlp.is_none());
    }
}
