//! The command line: what is common to all commands, and their list.

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    admin, ask, cache, cancel, completions, config, demo, doctor, egress, events, in_box, key, list, nudge,
    pause, pr, replay, resume, retry, run, serve, status, submit, trace, usage, watch, webhook, worker,
};

/// Background coding agents on your own machine: a task goes in, a pull request comes out.
#[derive(Debug, Parser)]
#[command(
    name = "bgagent",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 gave up waiting or wrong usage, 130 interrupted.\n\
                  Without --api-url the server of this machine is used, and started when it does not run.\n\n\
                  Examples:\n  bgagent demo\n  bgagent run \"Fix the failing test\"\n  bgagent list --status RUNNING,QUEUED"
)]
pub struct Cli {
    /// What all commands take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands take.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// How to print: for people, or one compact JSON object a line
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub output: Output,
    /// Server to talk to; the key for it is read from BGAGENT_API_KEY
    #[arg(long, global = true, env = "BGAGENT_API_URL", value_name = "URL", hide_env_values = true)]
    pub api_url: Option<String>,
    /// Tell on stderr what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one compact object a line.
    Json,
}

// No docs on the variants: those of the arguments, each in its own file, are the help.
/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(run::Args),
    Submit(submit::Args),
    List(list::Args),
    Status(status::Args),
    Watch(watch::Args),
    Events(events::Args),
    Egress(egress::Args),
    Cache(cache::Args),
    Nudge(nudge::Args),
    Ask(ask::Args),
    Cancel(cancel::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Retry(retry::Args),
    Pr(pr::Args),
    Trace(trace::Args),
    Replay(replay::Args),
    Usage(usage::Args),
    Key(key::Args),
    Webhook(webhook::Args),
    Admin(admin::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Box(in_box::Args),
    Serve(serve::Args),
    Config(config::Args),
    Completions(completions::Args),
    Worker(worker::Args),
}
