//! What the tests meet that is not ours, installed by package name with the ordinary clients.
//!
//! A recipe is written down once; its hash is the stamp in the peer's folder. A matching stamp means nothing is left to
//! do, so every command may ask for its peers every time. A stamp is taken away before work starts and written after
//! it ended: an interrupted installation is carried on by the next run.

pub mod bubblewrap;
mod npm;
mod podman;
mod projects;
mod venv;

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::{place, step};

const EXAMPLES: &str = "\
Examples:
  cargo xtask peers                       the same as `cargo xtask peers all`
  cargo xtask peers litellm projects      only these two
  BGAGENT_PEERS=/var/tmp/peers cargo xtask peers all

Each peer is in its own folder of `target/peers`, which leads to a folder shared by all checkouts.
A peer is installed again when its recipe changed; remove its folder to start over.";

/// The file that says that a peer's folder is complete.
const STAMP: &str = ".stamp";

/// Which peers to set up.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Peers to set up; none means all
    #[arg(value_enum)]
    names: Vec<Name>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Every peer that this machine can hold
    All,
    /// The official client of the AG-UI protocol
    AgUi,
    /// Another program that makes boxes, to measure ours beside (with apt)
    Bubblewrap,
    /// A model gateway that speaks the Anthropic and the OpenAI wire, and both official clients
    Litellm,
    /// An S3 service
    Moto,
    /// A scripted world of services behind a model gateway (needs Python 3.12)
    Myworld,
    /// Two identity providers, to sign in at
    Oidc,
    /// OpenTelemetry's own messages, to receive spans with
    Otlp,
    /// A container engine, and an image with the usual tools
    Podman,
    /// A mock server for API descriptions, and GitHub's own description
    Prism,
    /// Three real projects (Rust, Python, Node) as git repositories
    Projects,
    /// A property-based tester of APIs
    Schemathesis,
    /// A durable engine, to measure ours beside
    Temporal,
    /// The spelling checker of `cargo xtask lint`
    Typos,
}

/// One peer that can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// See [`Name::AgUi`].
    AgUi,
    /// See [`Name::Bubblewrap`].
    Bubblewrap,
    /// See [`Name::Litellm`].
    Litellm,
    /// See [`Name::Moto`].
    Moto,
    /// See [`Name::Myworld`].
    Myworld,
    /// See [`Name::Oidc`].
    Oidc,
    /// See [`Name::Otlp`].
    Otlp,
    /// See [`Name::Podman`].
    Podman,
    /// See [`Name::Prism`].
    Prism,
    /// See [`Name::Projects`].
    Projects,
    /// See [`Name::Schemathesis`].
    Schemathesis,
    /// See [`Name::Temporal`].
    Temporal,
    /// See [`Name::Typos`].
    Typos,
}

/// How a peer came to be there, or did not.
enum Outcome {
    Installed,
    Present,
    Skipped(String),
}

/// What a recipe says when it cannot be carried out on this machine.
pub enum Made {
    Done,
    Impossible(String),
}

/// The command `cargo xtask peers`: a peer asked for by name must end up there.
pub fn run(args: &Args) -> Result<()> {
    if args.names.is_empty() || args.names.contains(&Name::All) {
        return set_up(&Peer::ALL);
    }
    for name in &args.names {
        let peer = match name {
            Name::All => continue,
            Name::AgUi => Peer::AgUi,
            Name::Bubblewrap => Peer::Bubblewrap,
            Name::Litellm => Peer::Litellm,
            Name::Moto => Peer::Moto,
            Name::Myworld => Peer::Myworld,
            Name::Oidc => Peer::Oidc,
            Name::Otlp => Peer::Otlp,
            Name::Podman => Peer::Podman,
            Name::Prism => Peer::Prism,
            Name::Projects => Peer::Projects,
            Name::Schemathesis => Peer::Schemathesis,
            Name::Temporal => Peer::Temporal,
            Name::Typos => Peer::Typos,
        };
        if let Outcome::Skipped(why) = install(peer)? {
            bail!("setting up {}: {why}", peer.name());
        }
        if peer == Peer::Podman
            && let Some(engine) = engine()?
        {
            eprintln!("export DOCKER_HOST={} BGAGENT_TEST_IMAGE={}", engine.address, engine.image);
        }
    }
    Ok(())
}

/// Sets up these peers; one that this machine cannot hold is said and left out.
pub fn set_up(peers: &[Peer]) -> Result<()> {
    for peer in peers {
        install(*peer)?;
    }
    Ok(())
}

/// A container engine for tests.
pub struct Engine {
    /// For `DOCKER_HOST`.
    pub address: String,
    /// An image that it has.
    pub image: &'static str,
}

/// The container engine, started; nothing on a machine where it could not be installed.
pub fn engine() -> Result<Option<Engine>> {
    let folder = place::peers()?.join(Peer::Podman.name());
    if !folder.join(STAMP).exists() {
        return Ok(None);
    }
    let address = podman::serve(&folder).context("starting the container engine")?;
    Ok(Some(Engine { address, image: podman::IMAGE }))
}

impl Peer {
    /// Every peer.
    pub const ALL: [Peer; 13] = [
        Peer::AgUi,
        Peer::Bubblewrap,
        Peer::Litellm,
        Peer::Moto,
        Peer::Myworld,
        Peer::Oidc,
        Peer::Otlp,
        Peer::Podman,
        Peer::Prism,
        Peer::Projects,
        Peer::Schemathesis,
        Peer::Temporal,
        Peer::Typos,
    ];
    /// Those the tests need; the rest is for other commands.
    pub const OF_TESTS: [Peer; 10] = [
        Peer::AgUi,
        Peer::Litellm,
        Peer::Moto,
        Peer::Myworld,
        Peer::Oidc,
        Peer::Otlp,
        Peer::Podman,
        Peer::Prism,
        Peer::Projects,
        Peer::Schemathesis,
    ];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Peer::AgUi => "ag-ui",
            Peer::Bubblewrap => bubblewrap::PACKAGE,
            Peer::Litellm => "litellm",
            Peer::Moto => "moto",
            Peer::Myworld => "myworld",
            Peer::Oidc => "oidc",
            Peer::Otlp => "otlp",
            Peer::Podman => "podman",
            Peer::Prism => "prism",
            Peer::Projects => "projects",
            Peer::Schemathesis => "schemathesis",
            Peer::Temporal => "temporal",
            Peer::Typos => "typos",
        }
    }

    /// All that decides what the peer's folder holds.
    fn recipe(self) -> String {
        match self {
            Peer::AgUi => npm::AG_UI.join(" "),
            Peer::Bubblewrap => bubblewrap::PACKAGE.into(),
            Peer::Litellm => venv::LITELLM.recipe(),
            Peer::Moto => venv::MOTO.recipe(),
            Peer::Myworld => venv::MYWORLD.recipe(),
            Peer::Oidc => npm::OIDC.join(" "),
            Peer::Otlp => venv::OTLP.recipe(),
            Peer::Podman => podman::recipe(),
            Peer::Prism => npm::PRISM.join(" "),
            Peer::Projects => projects::recipe(),
            Peer::Schemathesis => venv::SCHEMATHESIS.recipe(),
            Peer::Temporal => venv::TEMPORAL.recipe(),
            Peer::Typos => venv::TYPOS.recipe(),
        }
    }

    fn make(self, folder: &Path) -> Result<Made> {
        match self {
            Peer::AgUi => npm::make(&npm::AG_UI, folder),
            Peer::Bubblewrap => bubblewrap::make(folder),
            Peer::Litellm => venv::LITELLM.make(folder),
            Peer::Moto => venv::MOTO.make(folder),
            Peer::Myworld => venv::MYWORLD.make(folder),
            Peer::Oidc => npm::make(&npm::OIDC, folder),
            Peer::Otlp => venv::OTLP.make(folder),
            Peer::Podman => podman::make(folder),
            Peer::Prism => npm::make(&npm::PRISM, folder),
            Peer::Projects => projects::make(folder).map(|()| Made::Done),
            Peer::Schemathesis => venv::SCHEMATHESIS.make(folder),
            Peer::Temporal => venv::TEMPORAL.make(folder),
            Peer::Typos => venv::TYPOS.make(folder),
        }
    }
}

fn install(peer: Peer) -> Result<Outcome> {
    let root = place::peers()?;
    let started = Instant::now();
    let outcome = install_in(&root, peer).with_context(|| format!("setting up {}", peer.name()))?;
    let folder = root.join(peer.name());
    match &outcome {
        Outcome::Present => eprintln!("peer {}: present in {}", peer.name(), folder.display()),
        Outcome::Installed => {
            eprintln!("peer {}: installed in {}, {}", peer.name(), folder.display(), step::seconds(started));
        }
        Outcome::Skipped(why) => eprintln!("peer {}: skipped: {why}", peer.name()),
    }
    Ok(outcome)
}

fn install_in(root: &Path, peer: Peer) -> Result<Outcome> {
    let folder = root.join(peer.name());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let guard = folder.join(".lock");
    let guard = File::create(&guard).with_context(|| format!("opening {}", guard.display()))?;
    guard.lock().context("waiting for another run that sets it up")?;

    let stamp = folder.join(STAMP);
    let wanted = hex::encode(Sha256::digest(peer.recipe()));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(Outcome::Present);
    }
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("removing {}", stamp.display()))?;
    }
    match peer.make(&folder)? {
        Made::Impossible(why) => Ok(Outcome::Skipped(why)),
        Made::Done => {
            fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
            Ok(Outcome::Installed)
        }
    }
}
