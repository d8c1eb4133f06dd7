//! The container backend with a real engine.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::query_parameters::{RemoveImageOptions, TagImageOptionsBuilder};
use compute::conformance::{self, Harness as _, ended};
use compute::container::{ContainerBackend, ContainerConfig, Image};
use compute::{BoxSpec, ComputeBackend, ComputeError, SessionSpec, SessionStatus, StopOutcome};
use domain::{BoxLimits, IsolationTier, SessionHandle};

use crate::engine::{Boxes, Engine, dir, engine};

const GRACE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let Some(engine) = engine() else { return };
    conformance::run(|| Boxes::new(&engine)).await;
}

#[tokio::test]
async fn neither_layer_has_rights_or_a_network() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let (backend, handle) = begun(&boxes).await;
    let script = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
        echo interfaces: $(tail -n +3 /proc/net/dev | cut -d: -f1)
        touch /usr/x /etc/x /box/x 2>&1 | grep -c 'Read-only'
        find / -xdev -name '*.sock' 2>/dev/null; ls /var/run/docker.sock /run/podman 2>/dev/null; true";
    for said in [boxes.tools(&handle, script).await, boxes.worker(&handle, script).await] {
        let lines: Vec<String> =
            said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000000",
            "NoNewPrivs: 1",
            "Seccomp: 2",
            "interfaces: lo",
            "3",
        ];
        let found: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|l| !l.starts_with("Uid") && !l.starts_with("code"))
            .collect();
        assert_eq!(found, expected, "{said}");
        if nix::unistd::geteuid().is_root() {
            assert!(!lines.iter().any(|line| line.starts_with("Uid: 0 ")), "{said}");
        }
    }
    end(&backend, &handle).await;
}

#[tokio::test]
async fn the_tools_see_nothing_of_the_worker() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let spec = boxes.spec();
    let backend = boxes.container();
    let handle = backend.start(&spec).await.unwrap();
    let script = "ls -d /session /gateway 2>/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo
        cat /proc/[0-9]*/environ | tr '\\0' '\\n'; grep -rl bootstrap-token /run /box /home /tmp /etc 2>/dev/null
        touch /run/bgagent/x 2>/dev/null && echo wrote into the socket folder; true";
    let said = boxes.tools(&handle, script).await;
    for hidden in ["/session", "/gateway", "worker --", "bootstrap-token", "wrote into"] {
        assert!(!said.contains(hidden), "{hidden}: {said}");
    }
    let said = boxes
        .worker(&handle, "ls -d /gateway; cat /session/session.json; cat /proc/1/environ | tr '\\0' '\\n'")
        .await;
    assert!(
        said.contains("/gateway") && said.contains("\"gateway\":\"unix:/gateway/gateway.sock\""),
        "{said}"
    );
    assert!(!said.contains("bootstrap-token"), "{said}");
    assert!(!said.contains(boxes.path("").to_str().unwrap()), "paths of the machine are told: {said}");
    end(&backend, &handle).await;
}

#[tokio::test]
async fn both_layers_share_the_work_tree_and_its_tools_work() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let (backend, handle) = begun(&boxes).await;
    let script = "cd /box/repo && git init -q . && printf 'int main(void){return 7;}' >/tmp/a.c && gcc -o a /tmp/a.c; ./a
        echo gave $?; python3 -c 'import getpass, os; print(getpass.getuser(), os.path.expanduser(\"~\"))'
        touch ~/mine && echo home; (python3 -m http.server 8765 --bind 127.0.0.1 >/dev/null 2>&1 &) ; n=0
        until python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8765\")' 2>/dev/null || [ $n -gt 50 ]; do n=$((n+1)); sleep 0.1; done
        [ $n -le 50 ] && echo loopback";
    let said = boxes.tools(&handle, script).await;
    for line in ["gave 7", "agent /home/agent", "home", "loopback"] {
        assert!(said.lines().any(|l| l == line) || said.contains("root /home/agent"), "{line}: {said}");
    }
    let said =
        boxes.worker(&handle, "ls /box/repo/a && echo edited >/box/repo/edited && ls /home/agent").await;
    assert!(said.contains("/box/repo/a") && !said.contains("mine"), "{said}");
    assert!(boxes.tools(&handle, "cat /box/repo/edited").await.contains("edited"));
    if nix::unistd::geteuid().is_root() {
        let owner = std::fs::metadata(dir(&handle).join("box/repo/edited")).unwrap().uid();
        assert!(owner > 1_000_000_000, "{owner}");
    }
    end(&backend, &handle).await;
}

#[tokio::test]
async fn a_start_that_was_cut_off_anywhere_is_completed() {
    let Some(engine) = engine() else { return };
    for cut in [0, 30, 80, 150, 250, 400, 700] {
        let boxes = Boxes::new(&engine);
        let spec = boxes.spec();
        let first = boxes.container();
        // Dropping the start is what a crash does: whatever is there stays as it is.
        let cut_off = tokio::time::timeout(Duration::from_millis(cut), first.start(&spec)).await;
        let backend = boxes.container();
        let handle = backend.start(&spec).await.unwrap_or_else(|e| panic!("cut after {cut} ms: {e:?}"));
        if let Ok(first) = cut_off {
            assert_eq!(first.unwrap(), handle);
        }
        assert_eq!(backend.poll(&handle).await.unwrap(), SessionStatus::Running, "cut after {cut} ms");
        assert_eq!(backend.list_sessions().await.unwrap(), std::slice::from_ref(&handle));
        end(&backend, &handle).await;
        backend.purge(&handle).await.unwrap();
        assert!(!dir(&handle).exists());
    }
}

#[tokio::test]
async fn a_graceful_worker_is_asked_and_a_stubborn_one_killed() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let (backend, handle) = begun(&boxes).await;
    assert_eq!(backend.stop(&handle, GRACE).await.unwrap(), StopOutcome::Stopped);
    assert!(dir(&handle).join("session/graceful").exists());
    assert_eq!(ended(&backend, &handle).await.0, Some(0));

    let (backend, handle) = begun(&boxes).await;
    boxes.worker(&handle, "kill -STOP 1; true").await;
    let tools = "trap '' TERM; (trap '' TERM; sleep 60) & true";
    boxes.tools(&handle, tools).await;
    // Process 1 of a container heeds no signal it has no handler for: this one has, so stop the clock short.
    assert_eq!(backend.stop(&handle, Duration::ZERO).await.unwrap(), StopOutcome::Stopped);
    assert_eq!(backend.list_sessions().await.unwrap(), []);
    let log = std::fs::read_to_string(dir(&handle).join("worker.log")).unwrap();
    assert!(log.contains("toy: took the session"), "{log}");
}

#[tokio::test]
async fn what_the_tools_use_is_bounded() {
    let Some(engine) = engine() else { return };
    let mut boxes = Boxes::new(&engine);
    boxes.plan.limits =
        BoxLimits { memory_mib: 96, processes: 40, open_files: 64, file_mib: 2, ..BoxLimits::default() };
    let (backend, handle) = begun(&boxes).await;
    let said = boxes.tools(&handle, "python3 -c 'x = bytearray(300 << 20)'; echo memory $?").await;
    assert!(said.contains("memory 137"), "{said}");
    let forks = "python3 - <<'E'
import os, signal
children = []
try:
    while len(children) < 200:
        child = os.fork()
        if child == 0: signal.pause()
        children.append(child)
except OSError as e:
    for child in children: os.kill(child, 9); os.waitpid(child, 0)
    print('forks', len(children), e.errno)
E";
    let said = boxes.tools(&handle, forks).await;
    let forked: u32 = said.split_whitespace().nth(1).unwrap_or_default().parse().unwrap_or(200);
    assert!(said.contains("forks") && forked < 48, "{said}");
    let said = boxes
        .tools(&handle, "ulimit -n; head -c 4194304 /dev/zero >/tmp/big; ls -s /tmp/big | cut -d' ' -f1")
        .await;
    assert!(said.starts_with("64\n") && said.contains("\n2048\n"), "{said}");
    assert_eq!(backend.poll(&handle).await.unwrap(), SessionStatus::Running, "the box outlives its commands");
    end(&backend, &handle).await;
}

#[tokio::test]
async fn a_full_box_is_ended_and_says_so() {
    let Some(engine) = engine() else { return };
    let mut boxes = Boxes::new(&engine);
    boxes.plan.limits = BoxLimits { disk_mib: 3, ..BoxLimits::default() };
    let (backend, handle) = begun(&boxes).await;
    boxes.tools(&handle, "fallocate -l 600M /tmp/full").await;
    let (code, tail) = ended(&backend, &handle).await;
    assert_eq!(code, Some(137));
    assert!(tail.contains("compute.limits.disk_mib"), "{tail}");
    assert_eq!(backend.list_sessions().await.unwrap(), []);
}

#[tokio::test]
async fn one_box_does_not_write_into_the_cache_of_another() {
    let Some(engine) = engine() else { return };
    let mut boxes = Boxes::new(&engine);
    let cache = boxes.path("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("package"), "good").unwrap();
    if nix::unistd::geteuid().is_root() {
        for path in [cache.clone(), cache.join("package")] {
            std::os::unix::fs::chown(path, Some(1_900_000_000), Some(1_900_000_000)).unwrap();
        }
    }
    boxes.plan.cache = Some(cache.clone());
    let (backend, one) = begun(&boxes).await;
    let (_, two) = begun(&boxes).await;
    let said = boxes.tools(&one, "cat /box/cache/package; echo bad >/box/cache/package; echo x >/box/cache/new; cat /box/cache/new").await;
    assert!(said.contains("goodx"), "{said}");
    let said = boxes.tools(&two, "cat /box/cache/package; ls /box/cache").await;
    assert!(said.contains("good") && !said.contains("new"), "{said}");
    end(&backend, &one).await;
    end(&backend, &two).await;
    assert_eq!(std::fs::read_to_string(cache.join("package")).unwrap(), "good");
    backend.purge(&one).await.unwrap();
    backend.purge(&two).await.unwrap();
}

#[tokio::test]
async fn the_mirror_s_objects_are_lent_read_only() {
    let Some(engine) = engine() else { return };
    let mut boxes = Boxes::new(&engine);
    let objects = boxes.path("objects");
    std::fs::create_dir(&objects).unwrap();
    std::fs::write(objects.join("one"), "object").unwrap();
    std::os::unix::fs::chown(boxes.path("objects/one"), Some(0), Some(0)).ok();
    boxes.plan = BoxSpec { objects: Some(objects), env: vec![("SITE".into(), "here".into())], ..boxes.plan };
    let (backend, handle) = begun(&boxes).await;
    let said =
        boxes.tools(&handle, "cat /box/objects/one; echo; touch /box/objects/two 2>&1; echo $SITE").await;
    assert!(said.contains("object\n") && said.contains("Read-only") && said.contains("here"), "{said}");
    end(&backend, &handle).await;
}

#[tokio::test]
async fn an_image_that_is_not_to_be_had_is_said_before_anything_runs() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let backend = ContainerBackend::new(ContainerConfig {
        image: Image::Default("localhost/no-such".into()),
        ..boxes.config()
    });
    let why = backend.supports(IsolationTier::Container).unwrap_err();
    assert!(why.contains("localhost/no-such") && why.contains("pull"), "{why}");
    let error = backend.start(&boxes.spec()).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::Unsupported { reason, .. } if reason.contains("localhost/no-such")),
        "{error:?}"
    );
    assert_eq!(backend.list_sessions().await.unwrap(), []);
    let nameless = ContainerBackend::new(ContainerConfig { image: Image::OfPlans, ..boxes.config() });
    assert_eq!(nameless.supports(IsolationTier::Container), Ok(()), "the plan may name one");
    let unset = ContainerBackend::new(ContainerConfig { image: Image::Unset, ..boxes.config() });
    assert!(unset.supports(IsolationTier::Container).unwrap_err().contains("compute.image"));
    let error = nameless.start(&boxes.spec()).await.unwrap_err();
    assert!(error.to_string().contains("compute.image"), "{error}");
}

#[tokio::test]
async fn an_image_that_a_repository_names_is_for_its_tools_alone() {
    let Some(engine) = engine() else { return };
    let docker = docker(&engine);
    let tag = TagImageOptionsBuilder::new().repo("localhost/of-a-repository").tag("1").build();
    docker.tag_image(&engine.image, Some(tag)).await.unwrap();
    let mut boxes = Boxes::new(&engine);
    boxes.plan.tools_image = Some("localhost/of-a-repository:1".into());
    let (backend, handle) = begun(&boxes).await;
    let SessionHandle::Container { worker, tools, .. } = &handle else { panic!("{handle:?}") };
    let image =
        async |id: &str| docker.inspect_container(id, None).await.unwrap().config.unwrap().image.unwrap();
    assert_eq!(image(tools).await, "localhost/of-a-repository:1");
    assert_eq!(image(worker).await, engine.image);
    end(&backend, &handle).await;

    // What cannot run there is said by the image's name.
    let program = boxes.path("program");
    std::fs::write(&program, UNFIT_FOR_TOOLS).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let backend = ContainerBackend::new(ContainerConfig { program, ..boxes.config() });
    let error = backend.start(&boxes.spec()).await.unwrap_err();
    let why = error.to_string();
    assert!(why.contains("GLIBC_9.99") && why.contains("localhost/of-a-repository:1"), "{error:?}");
    assert_eq!(backend.list_sessions().await.unwrap(), []);

    // Without an image of the operator's there is none for the worker.
    let unset = ContainerBackend::new(ContainerConfig { image: Image::OfPlans, ..boxes.config() });
    let why = unset.start(&boxes.spec()).await.unwrap_err().to_string();
    assert!(why.contains("compute.image"), "{why}");
    docker.remove_image("localhost/of-a-repository:1", None::<RemoveImageOptions>, None).await.unwrap();
}

/// A program whose worker comes up, and whose tools find an older glibc in their image.
const UNFIT_FOR_TOOLS: &str = "#!/bin/sh
[ $1 = worker ] || { echo '/box/bgagent: version `GLIBC_9.99 not found' >&2; exit 1; }
sleep 1; echo 1 >/session/pid; sleep 60
";

/// As when a start is cut off while the engine is still making what it asked for: the second finds nothing, and then
/// that the names are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_start_before_has_taken_meanwhile_is_made_free() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let socket = boxes.path("slow.sock");
    twice(&socket, engine.socket.clone());
    let backend = ContainerBackend::new(ContainerConfig { sockets: Ok(vec![socket]), ..boxes.config() });
    let handle = backend.start(&boxes.spec()).await.unwrap();
    assert_eq!(backend.poll(&handle).await.unwrap(), SessionStatus::Running);
    end(&backend, &handle).await;
}

/// An engine that has done already what the first question for a container asks for.
fn twice(at: &Path, engine: PathBuf) {
    let listener = UnixListener::bind(at).unwrap();
    let asked = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (engine, asked) = (engine.clone(), asked.clone());
            std::thread::spawn(move || relay(client, &engine, &asked));
        }
    });
}

fn relay(mut client: UnixStream, engine: &Path, asked: &AtomicBool) {
    let mut server = UnixStream::connect(engine).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
    let mut piece = vec![0; 1 << 20];
    let mut question = Vec::new();
    while let Ok(length @ 1..) = client.read(&mut piece) {
        question.extend_from_slice(&piece[..length]);
        let whole = question.ends_with(b"}") || !question.starts_with(b"POST");
        if String::from_utf8_lossy(&question).contains("/containers/create") && !asked.load(Ordering::Relaxed)
        {
            if !whole {
                continue;
            }
            asked.store(true, Ordering::Relaxed);
            let mut before = UnixStream::connect(engine).unwrap();
            before.write_all(&question).unwrap();
            assert!(before.read(&mut [0; 1024]).unwrap() > 0);
        }
        server.write_all(&question).unwrap();
        question.clear();
    }
    drop(server.shutdown(Shutdown::Write));
}

#[tokio::test]
async fn a_worker_that_cannot_come_up_leaves_nothing_behind() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    // A program whose interpreter is not in the image: what a musl image is for a glibc program.
    let program = boxes.path("program");
    std::fs::write(&program, "#!/lib/ld-other.so.1\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let backend = ContainerBackend::new(ContainerConfig { program: program.clone(), ..boxes.config() });
    let spec = boxes.spec();
    let error = backend.start(&spec).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::Unsupported { reason, .. } if reason.contains("cannot run in the image")),
        "{error:?}"
    );
    std::fs::write(&program, "#!/bin/sh\n[ $1 = worker ] && echo '/box/bgagent: version `GLIBC_9.99 not found' && exit 1; sleep 60\n").unwrap();
    let error = backend.start(&spec).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::Unsupported { reason, .. } if reason.contains("GLIBC_9.99")),
        "{error:?}"
    );
    assert_eq!(backend.list_sessions().await.unwrap(), []);
    let session = boxes.path("containers").join(format!("{}-1", spec.task));
    assert!(!session.exists(), "nothing is left of it, and nothing looks for it at the engine");
    let handle = boxes.container().start(&spec).await.unwrap();
    end(&boxes.container(), &handle).await;
}

#[tokio::test]
async fn a_gateway_that_a_container_cannot_reach_is_refused() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let spec = SessionSpec { gateway: "http://127.0.0.1:7879".into(), ..boxes.spec() };
    let error = boxes.container().start(&spec).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::Unsupported { reason, .. } if reason.contains("gateway_listen")),
        "{error:?}"
    );
}

#[tokio::test]
async fn two_servers_on_one_engine_leave_each_other_alone() {
    let Some(engine) = engine() else { return };
    let (ours, theirs) = (Boxes::new(&engine), Boxes::new(&engine));
    let (backend, handle) = begun(&ours).await;
    assert_eq!(theirs.container().list_sessions().await.unwrap(), []);
    // The same attempt in another state folder would have the same names.
    let spec = SessionSpec { task: handle.task(), ..theirs.spec() };
    let error = theirs.container().start(&spec).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::Unsupported { reason, .. } if reason.contains("not of this server")),
        "{error:?}"
    );
    assert_eq!(backend.poll(&handle).await.unwrap(), SessionStatus::Running);
    end(&backend, &handle).await;
}

#[tokio::test]
async fn a_box_whose_containers_somebody_removed_has_ended() {
    let Some(engine) = engine() else { return };
    let boxes = Boxes::new(&engine);
    let (backend, handle) = begun(&boxes).await;
    let docker = docker(&engine);
    let SessionHandle::Container { worker, .. } = &handle else { panic!("{handle:?}") };
    let force = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
    docker.kill_container(worker, None).await.unwrap();
    docker.remove_container(worker, Some(force)).await.unwrap();
    assert_eq!(backend.list_sessions().await.unwrap(), std::slice::from_ref(&handle), "the tools still run");
    assert_eq!(ended(&backend, &handle).await, (None, String::new()));
    assert_eq!(backend.list_sessions().await.unwrap(), []);
}

#[tokio::test]
async fn without_an_engine_it_is_said_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let config = ContainerConfig {
        sessions_dir: place.path().join("containers"),
        program: "/bin/true".into(),
        sockets: Ok(vec![place.path().join("none.sock")]),
        image: Image::Default("any".into()),
    };
    let backend = ContainerBackend::new(config.clone());
    let why = backend.supports(IsolationTier::Container).unwrap_err();
    assert!(why.contains("none.sock") && why.contains("install Podman or Docker"), "{why}");
    let spec = SessionSpec { tier: IsolationTier::Container, ..conformance::spec() };
    assert!(matches!(backend.start(&spec).await.unwrap_err(), ComputeError::Unavailable { .. }));
    assert_eq!(backend.list_sessions().await.unwrap(), []);
    let named = ContainerBackend::new(ContainerConfig { sockets: Err("no such kind".into()), ..config });
    assert_eq!(named.supports(IsolationTier::Container), Err("no such kind".into()));
    let others: BTreeMap<&str, bool> =
        IsolationTier::ALL.into_iter().map(|t| (t.as_str(), backend.supports(t).is_ok())).collect();
    assert!(others.values().all(|able| !able), "{others:?}");
}

fn docker(engine: &Engine) -> bollard::Docker {
    let version = bollard::ClientVersion { major_version: 1, minor_version: 41 };
    bollard::Docker::connect_with_unix(&engine.socket.to_string_lossy(), 60, &version).unwrap()
}

async fn begun(boxes: &Boxes) -> (ContainerBackend, SessionHandle) {
    let backend = boxes.container();
    let handle = backend.start(&boxes.spec()).await.unwrap();
    (backend, handle)
}

async fn end(backend: &ContainerBackend, handle: &SessionHandle) {
    assert_eq!(backend.stop(handle, GRACE).await.unwrap(), StopOutcome::Stopped);
}
