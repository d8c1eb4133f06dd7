//! `bgagent serve`: the control plane.

use serde_json::json;
use server::config::LogFormat;
use server::log::Lines;
use server::{Config, ServeError, ServeOptions, Starter};
use tracing_subscriber::EnvFilter;

use super::number;
use crate::clean;
use crate::connect::TAKEN;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Run a server: the API, the task engine and the gateway of boxes
///
/// Stopping it leaves running tasks alone; the next start finds them again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent serve
  bgagent serve --listen 127.0.0.1:0 --idle-exit 600
  BGAGENT__STATE_DIR=/srv/bgagent bgagent serve")]
pub struct Args {
    /// Address of the API, on this machine; port 0 takes any [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Leave the terminal: a session of its own, as when a command starts it
    #[arg(long)]
    background: bool,
    /// Stop after so many seconds without a request and without a task; 0 is never
    #[arg(long, value_name = "SECONDS", value_parser = number::idle_seconds)]
    idle_exit: Option<u64>,
}

/// Runs the command, in a runtime of its own.
pub fn serve(cx: &Context, args: &Args) -> Result<Exit, Failure> {
    if args.background {
        // A process that leads its group already has left the terminal's job; that is no error.
        let _ = nix::unistd::setsid();
    }
    let config = cx.server_config()?;
    log_to_stderr(&config)?;
    let failed = |e: std::io::Error| Failure::new(format!("setting up the server: {e}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let starter = if args.background { Starter::Command } else { Starter::Person };
    let options =
        ServeOptions { listen: args.listen.clone(), idle_exit_s: args.idle_exit, program: None, starter };
    runtime.block_on(async {
        let served = server::serve(config, &cx.env, options, |listening| {
            let line = json!({ "url": listening.url, "pid": std::process::id() });
            let state = listening.state_dir.display();
            // Whoever started us may have stopped reading; the server runs all the same.
            let _ = cx.result(&line, |_| {
                clean::line(&format!("bgagent listening on {} (state {state})", listening.url))
            });
        });
        served.await.map_err(|e| {
            let mut message = e.to_string();
            let mut cause = std::error::Error::source(&e);
            while let Some(deeper) = cause {
                let text = deeper.to_string();
                if !message.contains(&text) {
                    message = format!("{message}: {text}");
                }
                cause = deeper.source();
            }
            let exit = match e {
                ServeError::Taken { .. } if args.background => Exit::Of(TAKEN),
                _ => Exit::Failed,
            };
            Failure::new(message)
                .exit(exit)
                .hint("`bgagent doctor` checks the set-up; `bgagent config show` tells the settings.")
        })
    })?;
    Ok(Exit::Done)
}

/// The server's log goes to stderr: a service manager, or the command that started it, keeps it.
fn log_to_stderr(config: &Config) -> Result<(), Failure> {
    let log = &config.log;
    let filter = EnvFilter::try_new(&log.level).map_err(|e| {
        Failure::new(format!("log.level {:?} is no filter: {e}", log.level))
            .hint("Say error, warn, info, debug or trace, or `info,orchestrator=debug`.")
    })?;
    // A line that cannot be written (full disk) is lost; telling of it on the same stderr would panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines::of(config))
        .log_internal_errors(false);
    let set = match log.format {
        LogFormat::Text => lines.with_ansi(console::colors_enabled_stderr()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    set.map_err(|e| Failure::new(format!("setting up the log: {e}")))
}
