//! `bgagent box`: a command in the box that tasks get, to see what an agent would.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use domain::IsolationTier;
use git_dir::GitDir;
use nix::mount::{MntFlags, umount2};
use sandbox::{Bind, BoxError, Plan, layout};

use crate::clean;
use crate::context::Context;
use crate::failure::{Exit, Failure};

mod git_dir;

/// Variables that programs need to find each other and to speak as the person does, and that hold no secret.
const PASSED_ON: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOROOT",
    "JAVA_HOME",
    "NVM_DIR",
    "PYENV_ROOT",
];
/// Where the building of a box mounts something, in its folder.
const MOUNTED: &[&str] = &["root/worker", "root/tools", "cache/merged"];
/// Fills the work tree from objects that are lent, and becomes the command.
const CHECK_OUT: &str = r#"git init --quiet . && echo /box/objects > .git/objects/info/alternates && git reset --quiet --hard "$0" && exec "$@""#;

/// Run a command in the box that tasks get: no network, nothing of this machine but programs
///
/// What it leaves is thrown away. With --repo it starts in a fresh check-out of that repository's HEAD, whose objects are
/// lent, not copied. The exit code is the command's, as shells count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent box -- id
  bgagent box -- sh -c 'ls ~ /etc; cat ~/.ssh/id_ed25519'
  bgagent box --repo . -- cargo test --offline
  bgagent box --repo . -- bash")]
pub struct Args {
    /// The tier; only `sandbox` can be tried so
    #[arg(long, default_value = "sandbox", value_name = "TIER")]
    tier: IsolationTier,
    /// A git repository of this machine to start in
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command. The box is built by this process, which therefore must have one thread.
pub fn in_box(cx: &Context, args: &Args) -> Result<Exit, Failure> {
    match args.tier {
        IsolationTier::Sandbox => (),
        IsolationTier::Process => {
            return Err(Failure::usage("tier `process` isolates nothing")
                .hint("Run the command without `bgagent box`: it is the same."));
        }
        IsolationTier::Container | IsolationTier::Microvm => {
            return Err(Failure::usage(format!("tier `{}` cannot be tried so", args.tier.as_str()))
                .hint("Try the tools' image with the engine itself; `bgagent doctor` tells whether the tier can be had."));
        }
    }
    let config = cx.config()?;
    let repo = args.repo.as_deref().map(GitDir::find).transpose()?;
    let folder = Scratch::new(&config.state_dir.join("boxes"))
        .map_err(|e| Failure::new(format!("making a folder for the box: {e}")))?;
    let mut read_only: Vec<Bind> =
        config.compute.read.iter().map(|p| Bind { from: p.clone(), to: p.clone() }).collect();
    let mut command = args.command.clone();
    if let Some(repo) = repo {
        let check_out = ["/bin/sh", "-c", CHECK_OUT, repo.head.as_str()].map(OsString::from);
        command = check_out.into_iter().chain(command).collect();
        read_only.push(Bind { from: repo.objects, to: "/box/objects".into() });
    }
    let kept = |(name, value): (&String, &String)| (OsString::from(name), OsString::from(value));
    let plan = Plan {
        dir: folder.0.clone(),
        state: Some(config.state_dir.clone()),
        name: "box".into(),
        worker_binds: Vec::new(),
        read_only,
        cache: None,
        env: cx.env.iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str())).map(kept).collect(),
        limits: config.compute.limits.clone(),
    };
    let began = Instant::now();
    let ran = sandbox::run_command(&plan, Path::new(layout::REPO), &command).map_err(|e| no_box(&e))?;
    cx.verbose(&format!("{}; the box took {:.1} ms", ran.enforced, began.elapsed().as_secs_f64() * 1e3));
    for notice in &ran.notices {
        cx.note(&clean::line(&notice.to_string()));
    }
    Ok(Exit::Of(u8::try_from(ran.code).unwrap_or(1)))
}

fn no_box(error: &BoxError) -> Failure {
    Failure::new(format!("{error}: {}", error.source))
        .hint("`bgagent doctor` tells which tiers this machine can enforce, and what the others lack.")
}

/// A folder for one box, gone when dropped.
///
/// This process has entered the mount namespace in which the box was built: beneath the folder the host's programs are
/// mounted. They are taken off before anything is removed, and where they cannot be, nothing is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(boxes: &Path) -> io::Result<Scratch> {
        let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(boxes)?;
        sweep(boxes);
        let folder = boxes.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&folder);
        private(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mounted in MOUNTED {
            // What never was mounted cannot be taken off; whether anything is left is looked at next.
            let _ = umount2(&self.0.join(mounted), MntFlags::MNT_DETACH);
        }
        if MOUNTED.iter().all(|at| is_plain(&self.0, &self.0.join(at))) {
            remove(&self.0);
        }
    }
}

/// Whether nothing is mounted at `at`, a folder beneath `folder`.
fn is_plain(folder: &Path, at: &Path) -> bool {
    match (fs::symlink_metadata(folder), fs::symlink_metadata(at)) {
        (Ok(folder), Ok(at)) => folder.dev() == at.dev(),
        (Ok(_), Err(error)) => error.kind() == io::ErrorKind::NotFound,
        (Err(_), _) => false,
    }
}

/// Removes what boxes left whose process is gone: it was killed before it could.
fn sweep(boxes: &Path) {
    for entry in fs::read_dir(boxes).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            remove(&entry.path());
        }
    }
}

/// Removes a tree whose folders may have been left without permissions.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    open_up(path);
    // What is left is swept by the next box, or belongs to somebody who is not us.
    let _ = fs::remove_dir_all(path);
}

fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
