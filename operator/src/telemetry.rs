//! Logging.

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, LogFormat};

/// Starts logging to standard output.
pub fn init(cli: &Cli) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&cli.log_level)
        .map_err(|e| anyhow::anyhow!("log level \"{}\" is not understood: {e}", cli.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match cli.log_format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init()
        }
        LogFormat::Text => builder.init(),
    }
    Ok(())
}
