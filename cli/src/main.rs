//! `bgagent`: the one binary. Serves, works in boxes, and is what a person types.
//!
//! What boxes are made of (`bgagent worker` and its like) is told apart before anything else is set up.

mod args;
mod clean;
mod commands;
mod connect;
mod context;
mod failure;
mod folder;
mod render;
mod repo;
mod tui;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::failure::{Exit, Failure, Reader};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = commands::inside::run(&words) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let cx = Context::new(&cli.global);
    match dispatch(&cx, cli.command) {
        Ok(exit) => exit.into(),
        Err(Failure { reader: Reader::Gone, .. }) => ExitCode::SUCCESS,
        Err(failure) => {
            cx.passing("");
            cx.note(&format!("Error: {}", clean::block(&failure.message)));
            if let Some(hint) = &failure.hint {
                cx.note(&format!("Hint: {}", clean::line(hint)));
            }
            failure.exit.into()
        }
    }
}

fn dispatch(cx: &Context, command: Command) -> Result<Exit, Failure> {
    if let Command::Serve(args) = command {
        return commands::serve::serve(cx, &args);
    }
    if let Command::Box(args) = command {
        return commands::in_box::in_box(cx, &args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("setting up: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Run(args) => commands::run::run(cx, args).await,
            Command::Submit(args) => commands::submit::submit(cx, args).await,
            Command::List(args) => commands::list::list(cx, args).await,
            Command::Status(args) => commands::status::status(cx, args).await,
            Command::Watch(args) => commands::watch::watch(cx, args).await,
            Command::Events(args) => commands::events::events(cx, args).await,
            Command::Egress(args) => commands::egress::egress(cx, args).await,
            Command::Cache(args) => commands::cache::run(cx, args).await,
            Command::Nudge(args) => commands::nudge::nudge(cx, args).await,
            Command::Ask(args) => commands::ask::ask(cx, args).await,
            Command::Cancel(args) => commands::cancel::cancel(cx, args).await,
            Command::Pause(args) => commands::pause::pause(cx, args).await,
            Command::Resume(args) => commands::resume::resume(cx, args).await,
            Command::Retry(args) => commands::retry::retry(cx, args).await,
            Command::Pr(args) => commands::pr::pr(cx, args).await,
            Command::Key(args) => commands::key::key(cx, args).await,
            Command::Webhook(args) => commands::webhook::webhook(cx, args).await,
            Command::Trace(args) => commands::trace::trace(cx, args).await,
            Command::Replay(args) => commands::replay::replay(cx, args).await,
            Command::Usage(args) => commands::usage::usage(cx, args).await,
            Command::Admin(args) => commands::admin::admin(cx, args).await,
            Command::Demo(args) => commands::demo::demo(cx, args).await,
            Command::Doctor(args) => commands::doctor::doctor(cx, args).await,
            Command::Config(args) => commands::config::config(cx, args),
            Command::Completions(args) => commands::completions::completions(args),
            Command::Box(_) | Command::Serve(_) | Command::Worker(_) => unreachable!("told apart above"),
        }
    })
}

/// Wrong usage in our own form; help and version as they are.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::GaveUp.into();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.trim_end().trim_end_matches("For more information, try '--help'.").trim_end();
    eprintln!("Error: {}", clean::block(text));
    eprintln!("Hint: `bgagent help COMMAND` shows the options of a command, with examples.");
    Exit::GaveUp.into()
}
