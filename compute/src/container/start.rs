//! Starting a session once, however often it is asked for. The picture is in `container.rs`.
//!
//! A crash before the worker was started leaves containers that never ran: they are removed and made anew, so that what
//! runs is what was asked for last. A crash after it leaves a worker that runs or ran: it is found by its name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, CreateImageOptionsBuilder};
use domain::{IsolationTier, SessionHandle};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::ask::{self, Container};
use super::engine::{Open, Rights, failed, found};
use super::layer::{self, Cache, Hard, Images, Parts, User};
use super::place::{Place, Record, SessionFile};
use super::{ContainerBackend, Ids, Image, NAME_ONE, end, user};
use crate::local::blocking;
use crate::local::error::{self, PathError};
use crate::local::folder::Folder;
use crate::local::reach;
use crate::{BoxSpec, ComputeError, SessionSpec};

/// Longer than one whole start by somebody else.
const TURN_DEADLINE: Duration = Duration::from_secs(60);
/// An engine gives a name free that a start which was cut off had asked for.
const NAME_DEADLINE: Duration = Duration::from_secs(30);
/// A worker must have taken its session within this time.
const CLAIM_DEADLINE: Duration = Duration::from_secs(20);
/// Fetching an image.
const PULL_DEADLINE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(20);

/// See the module's own words.
pub(super) async fn start(
    backend: &ContainerBackend,
    spec: &SessionSpec,
) -> Result<SessionHandle, ComputeError> {
    let doing = format!("starting the session of {} attempt {}", spec.task, spec.attempt);
    match spec.tier {
        IsolationTier::Container => (),
        IsolationTier::Process | IsolationTier::Sandbox | IsolationTier::Microvm => {
            let reason = format!("the container backend has no tier `{}`", spec.tier.as_str());
            return Err(error::unsupported(&doing, reason));
        }
    }
    let place = Place(Folder::new(&backend.config.sessions_dir, spec.task, spec.attempt));
    on(&place, &doing, |place| place.0.create()).await?;
    let began = Instant::now();
    let _turn = loop {
        match on(&place, &doing, |place| place.0.turn()).await? {
            Some(turn) => break turn,
            None if began.elapsed() < TURN_DEADLINE => tokio::time::sleep(PAUSE).await,
            None => {
                return Err(error::unavailable(
                    &doing,
                    "another process is starting or removing the same session",
                ));
            }
        }
    };
    if let Some(record) = on(&place, &doing, |place| place.record()).await? {
        return Ok(handle(&place, record.worker, record.tools));
    }
    let begun = begin(backend, &place, spec, &doing).await;
    if begun.is_err() && on(&place, &doing, |place| Ok(!place.has_begun())).await? {
        // Nothing of it is left at the engine: nothing of it is left here, so that nobody looks for it there.
        on(&place, &doing, |place| place.0.remove()).await?;
    }
    let ids = begun?;
    Ok(handle(&place, ids.worker, ids.tools))
}

/// Finds or makes the containers, and records them.
async fn begin(
    backend: &ContainerBackend,
    place: &Place,
    spec: &SessionSpec,
    doing: &str,
) -> Result<Ids, ComputeError> {
    let open = backend.engine.open().await.map_err(|trouble| trouble.of(doing))?;
    let ids = match left(backend, &open, place, doing).await? {
        Some(ids) => ids,
        None => anew(backend, &open, place, spec, doing).await?,
    };
    claimed(&open, place, &ids, doing).await?;
    if let Some(image) = &spec.plan.tools_image {
        fits(&open, place, &ids, image, doing).await?;
    }
    let limits = &spec.plan.limits;
    let record = Record {
        worker: ids.worker.clone(),
        tools: ids.tools.clone(),
        memory_mib: limits.memory_mib,
        disk_mib: limits.disk_mib,
        cache_mib: limits.cache_mib,
    };
    on(place, doing, move |place| place.write_record(&record)).await?;
    Ok(ids)
}

fn handle(place: &Place, worker: String, tools: String) -> SessionHandle {
    let Folder { task, attempt, path } = place.0.clone();
    SessionHandle::Container { task, attempt, dir: path, worker, tools }
}

/// The containers that an earlier start left with their worker started; what it left otherwise is removed.
async fn left(
    backend: &ContainerBackend,
    open: &Open,
    place: &Place,
    doing: &str,
) -> Result<Option<Ids>, ComputeError> {
    let worker = ours(backend, open, place, layer::WORKER, doing).await?;
    let tools = ours(backend, open, place, layer::TOOLS, doing).await?;
    if let (Some(worker), Some(tools)) = (&worker, &tools)
        && worker.state.has_begun()
    {
        return Ok(Some(Ids { worker: worker.id.clone(), tools: tools.id.clone() }));
    }
    for container in [worker, tools].into_iter().flatten() {
        end::remove(open, &container.id, doing).await?;
    }
    Ok(None)
}

/// The container of this layer, by its name.
async fn ours(
    backend: &ContainerBackend,
    open: &Open,
    place: &Place,
    layer: &str,
    doing: &str,
) -> Result<Option<Container>, ComputeError> {
    let name = layer::name(place, layer);
    let seen = ask::container(&open.facts.socket, &name, doing).await?;
    let labels = seen.as_ref().and_then(|seen| seen.config.labels.as_ref());
    if seen.is_some() && labels.and_then(|labels| labels.get(layer::STATE)) != Some(&backend.state) {
        let reason = format!("a container {name} is there already and not of this server: remove it");
        return Err(error::unsupported(doing, reason));
    }
    Ok(seen)
}

/// Makes and starts both. What was made is removed again when any of it fails.
async fn anew(
    backend: &ContainerBackend,
    open: &Open,
    place: &Place,
    spec: &SessionSpec,
    doing: &str,
) -> Result<Ids, ComputeError> {
    let unsupported = |reason: String| error::unsupported(doing, reason);
    let user = user(open.facts.rights).map_err(unsupported)?;
    let plan = &spec.plan;
    let bounded = plan.limits.memory_mib > 0 || plan.limits.processes > 0;
    if let Some(why) = open.facts.unbounded().filter(|_| bounded) {
        return Err(unsupported(why));
    }
    let image = match (&plan.image, &backend.config.image) {
        (Some(image), _) | (None, Image::Default(image)) => image,
        (None, Image::OfPlans | Image::Unset) => return Err(unsupported(NAME_ONE.into())),
    };
    // What a repository names never runs where the token is.
    let images = Images { worker: image, tools: plan.tools_image.as_ref().unwrap_or(image) };
    // A mirror that is only just being made has nothing to lend yet.
    let objects = plan.objects.as_deref().filter(|objects| objects.is_dir());
    let socket = gateway(&spec.gateway).map_err(unsupported)?;
    if !backend.config.program.is_file() {
        let program = backend.config.program.display();
        return Err(unsupported(format!(
            "the program {program} is not there: start the server again from where it is now"
        )));
    }
    have(&open.docker, images.worker, doing).await?;
    if images.tools != images.worker {
        have(&open.docker, images.tools, doing).await?;
    }
    let enforced = open.facts.enforced();
    hand_over(place, spec, enforced, objects, &socket, &user, doing).await?;
    let cache = cache(open, place, plan.cache.as_deref()).await;
    let parts = Parts {
        place,
        state: &backend.state,
        program: &backend.config.program,
        images,
        user: &user,
        facts: &open.facts,
        hard: Hard::here(),
        limits: &plan.limits,
        env: &plan.env,
        objects,
        ca: plan.ca.as_deref().filter(|file| file.is_file()),
        gateway: socket.parent().unwrap_or(&socket),
        cache: &cache,
    };
    let begun = make(backend, open, &parts, doing).await;
    if begun.is_err() {
        clear(open, place, doing).await;
    }
    begun
}

async fn hand_over(
    place: &Place,
    spec: &SessionSpec,
    enforced: String,
    objects: Option<&Path>,
    socket: &Path,
    user: &User,
    doing: &str,
) -> Result<(), ComputeError> {
    let file_name = socket.file_name().unwrap_or_default().to_string_lossy();
    let gateway = format!("unix:{}/{file_name}", layer::GATEWAY);
    let (task, attempt, tier, token) = (spec.task, spec.attempt, spec.tier, spec.bootstrap_token.clone());
    // As the box sees it: nothing of the machine's paths is its business.
    let plan = BoxSpec {
        read: Vec::new(),
        objects: objects.map(|_| PathBuf::from(layer::OBJECTS)),
        cache: None,
        ca: None,
        ..spec.plan.clone()
    };
    let user = user.clone();
    on(place, doing, move |place| {
        place.prepare(&user)?;
        place.hand_over(
            &SessionFile { task, attempt, gateway: &gateway, tier, plan, enforced },
            &token,
            &user,
        )
    })
    .await
}

async fn make(
    backend: &ContainerBackend,
    open: &Open,
    parts: &Parts<'_>,
    doing: &str,
) -> Result<Ids, ComputeError> {
    let place = parts.place;
    let tools = create(backend, open, place, layer::TOOLS, layer::tools(parts), doing).await?;
    let worker = create(backend, open, place, layer::WORKER, layer::worker(parts), doing).await?;
    for (id, image) in [(&tools, parts.images.tools), (&worker, parts.images.worker)] {
        open.docker.start_container(id, None).await.map_err(not_started(image, doing))?;
    }
    Ok(Ids { worker, tools })
}

/// Makes the container of a layer. Where the engine was still at it when an earlier start was cut off, the name is taken by
/// what that one left, which is seen only now.
async fn create(
    backend: &ContainerBackend,
    open: &Open,
    place: &Place,
    layer: &str,
    body: ContainerCreateBody,
    doing: &str,
) -> Result<String, ComputeError> {
    let named = CreateContainerOptionsBuilder::new().name(&layer::name(place, layer)).build();
    let began = Instant::now();
    loop {
        let refused = match open.docker.create_container(Some(named.clone()), body.clone()).await {
            Ok(made) => return Ok(made.id),
            Err(error) if is_taken(&error) && began.elapsed() < NAME_DEADLINE => error,
            Err(error) => return Err(failed(doing)(error)),
        };
        tracing::warn!(error = &refused as &dyn std::error::Error, "a leftover is replaced");
        match ours(backend, open, place, layer, doing).await? {
            Some(leftover) => end::remove(open, &leftover.id, doing).await?,
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether the engine has a container of this name; Podman has more than one way to say it.
fn is_taken(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 409, .. } => true,
        Error::DockerResponseServerError { status_code: 500, message } => {
            message.contains("already in use") || message.contains("already exists")
        }
        _ => false,
    }
}

/// An engine tells of a program that its kernel cannot run as an error of its own.
fn not_started(image: &str, doing: &str) -> impl Fn(Error) -> ComputeError {
    move |error| {
        let words = error.to_string();
        if words.contains("/box/bgagent")
            && (words.contains("no such file") || words.contains("format error"))
        {
            return error::unsupported(doing, cannot_run(image, words.lines().last().unwrap_or_default()));
        }
        failed(doing)(error)
    }
}

fn cannot_run(image: &str, words: &str) -> String {
    format!(
        "this program cannot run in the image {image} ({}): it needs the machine's processor and a glibc that is not \
         older than where it was built (not musl); take another image, such as Debian's or Ubuntu's",
        words.trim()
    )
}

/// What a program said last of an image that it cannot run in.
fn unfit(tail: &str) -> Option<&str> {
    let signs = ["exec /box/bgagent", "GLIBC_", "libc.musl"];
    signs.iter().any(|sign| tail.contains(sign)).then(|| tail.lines().last().unwrap_or_default())
}

/// Sees whether this program came up in an image that the repository named for its tools; the worker's own is another.
async fn fits(open: &Open, place: &Place, ids: &Ids, image: &str, doing: &str) -> Result<(), ComputeError> {
    if end::look(open, &ids.tools, doing).await? == end::Seen::Running {
        return Ok(());
    }
    let tail = end::tail(open, &ids.tools).await;
    let Some(last) = unfit(&tail) else { return Ok(()) };
    clear(open, place, doing).await;
    Err(error::unsupported(doing, cannot_run(image, last)))
}

/// Waits until the worker took the session: from then on this attempt has run.
async fn claimed(open: &Open, place: &Place, ids: &Ids, doing: &str) -> Result<(), ComputeError> {
    let began = Instant::now();
    loop {
        let place_ = place.clone();
        if blocking(move || place_.is_claimed()).await {
            return Ok(());
        }
        let seen = end::look(open, &ids.worker, doing).await?;
        let why = match seen {
            end::Seen::Running if began.elapsed() < CLAIM_DEADLINE => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            end::Seen::Running => {
                let s = CLAIM_DEADLINE.as_secs();
                error::unavailable(doing, format!("the worker did not come up within {s} s"))
            }
            end::Seen::Ended { .. } | end::Seen::Gone if place.is_claimed() => return Ok(()),
            end::Seen::Gone => {
                error::unavailable(doing, "the worker's container was removed by somebody else")
            }
            end::Seen::Ended { code, .. } => {
                let tail = end::tail(open, &ids.worker).await;
                if let Some(last) = unfit(&tail) {
                    error::unsupported(doing, cannot_run("of the box", last))
                } else {
                    let tail = tail.trim();
                    error::unavailable(
                        doing,
                        format!("the worker ended with code {code} before it took the session: {tail}"),
                    )
                }
            }
        };
        clear(open, place, doing).await;
        return Err(why);
    }
}

/// Removes what a start that failed has made. The first error is the one to tell.
async fn clear(open: &Open, place: &Place, doing: &str) {
    let cleared = async {
        for layer in [layer::WORKER, layer::TOOLS] {
            end::remove(open, &layer::name(place, layer), doing).await?;
        }
        end::remove_cache(open, place).await;
        on(place, doing, |place| place.forget()).await
    };
    if let Err(error) = cleared.await {
        tracing::warn!(error = &error as &dyn std::error::Error, "what was not started is left behind");
        // The token at least does not stay.
        drop(on(place, doing, |place| place.take_back()).await);
    }
}

/// The gateway's socket: the only way out that a container without network can have.
fn gateway(address: &str) -> Result<PathBuf, String> {
    reach::from_a_box(address)?;
    let path = address.strip_prefix("unix:").map(PathBuf::from).filter(|path| path.is_absolute());
    path.filter(|path| path.file_name().is_some())
        .ok_or_else(|| format!("the gateway's address {address} is no path"))
}

/// Sees to it that the engine has the image.
async fn have(docker: &Docker, image: &str, doing: &str) -> Result<(), ComputeError> {
    if found(docker.inspect_image(image).await).map_err(failed(doing))?.is_some() {
        return Ok(());
    }
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains(':') || last.contains('@'));
    let wanted = if tagged { image.to_owned() } else { format!("{image}:latest") };
    let wanted = CreateImageOptionsBuilder::new().from_image(&wanted).build();
    let pull = async {
        let mut steps = docker.create_image(Some(wanted), None, None);
        while let Some(step) = steps.next().await {
            step?;
        }
        Ok::<(), Error>(())
    };
    let why = match tokio::time::timeout(PULL_DEADLINE, pull).await {
        Ok(Ok(())) if found(docker.inspect_image(image).await).map_err(failed(doing))?.is_some() => {
            return Ok(());
        }
        Ok(Ok(())) => "it was fetched, and is not there".to_owned(),
        Ok(Err(e)) => e.to_string(),
        Err(_late) => format!("it takes longer than {} s", PULL_DEADLINE.as_secs()),
    };
    Err(error::unsupported(
        doing,
        format!(
            "the engine does not have the image {image} and cannot fetch it ({why}): fetch or build it by hand, or name another"
        ),
    ))
}

/// How this engine can put a private layer over `lower`. What it cannot do leaves the box with an empty cache of its
/// own: slower, and as safe.
async fn cache(open: &Open, place: &Place, lower: Option<&Path>) -> Cache {
    let Some(lower) = lower.filter(|lower| lower.is_dir()) else { return Cache::Private };
    let (upper, work) = (place.path("box/cache-upper"), place.path("box/cache-work"));
    // These are the separators of mount options.
    let plain = |path: &Path| path.to_str().is_some_and(|text| !text.contains([',', ':', '\\']));
    if ![lower, &upper, &work].into_iter().all(plain) {
        return Cache::Private;
    }
    match (open.facts.rights, open.facts.podman) {
        (Rights::User, true) => Cache::Over(lower.to_owned()),
        (Rights::User, false) => Cache::Private,
        (Rights::Root, _) => {
            let layers = format!(
                "lowerdir={},upperdir={},workdir={}",
                lower.display(),
                upper.display(),
                work.display()
            );
            let options = [("type", "overlay"), ("device", "overlay"), ("o", layers.as_str())];
            let name = layer::name(place, "cache");
            let volume = VolumeCreateRequest {
                name: Some(name.clone()),
                driver: Some("local".into()),
                driver_opts: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                ..Default::default()
            };
            end::remove_cache(open, place).await;
            match open.docker.create_volume(volume).await {
                Ok(_) => Cache::Volume(name),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the box gets an empty cache");
                    Cache::Private
                }
            }
        }
    }
}

/// A file operation on the folder, off the runtime's threads.
pub(super) async fn on<T: Send + 'static>(
    place: &Place,
    doing: &str,
    act: impl FnOnce(&Place) -> Result<T, PathError> + Send + 'static,
) -> Result<T, ComputeError> {
    let place = place.clone();
    blocking(move || act(&place)).await.map_err(|e| e.of(doing))
}
