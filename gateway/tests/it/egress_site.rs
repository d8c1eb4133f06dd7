//! Which registries the tools of this machine use: asked from the real tools, with their real configuration and with
//! mirrors of our own on loopback.

use std::path::Path;

use gateway::egress::site::book::{Book, Fill};
use gateway::egress::site::{Env, Group, Origin, Sites, Tool, discover};
use orchestrator::Tasks;
use orchestrator::tasks::OnPanic;
use tempfile::TempDir;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// The environment of this test: what a server started from this shell would have.
fn environment() -> Env {
    std::env::vars().collect()
}

/// The same for a person with an empty home folder; toolchains stay where they are.
fn at_home(home: &Path) -> Env {
    let mut env = environment();
    let real = env.get("HOME").cloned().unwrap_or_default();
    env.retain(|name, _| {
        !["PIP_", "NPM_CONFIG_", "CARGO_"].iter().any(|p| name.to_uppercase().starts_with(p))
    });
    for (name, folder) in [("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv")] {
        env.entry(name.into()).or_insert_with(|| format!("{real}/{folder}"));
    }
    env.insert("HOME".into(), home.display().to_string());
    env
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !there {
        eprintln!("skipped: {program} is not installed here");
    }
    there
}

fn hosts(group: &Group) -> Vec<String> {
    group.hosts.iter().map(ToString::to_string).collect()
}

fn text_of(group: &Group) -> String {
    format!("{:?} {:?} {:?} {:?}", group.env, group.files, group.note, group.hosts)
}

#[tokio::test]
async fn every_tool_of_this_machine_names_a_host() {
    let place = TempDir::new().unwrap();
    let sites = Sites::discover(&environment(), &place.path().join("tmp")).await;
    for (tool, program) in
        [(Tool::Cargo, "cargo"), (Tool::Npm, "npm"), (Tool::Pip, "python3"), (Tool::Apt, "apt-get")]
    {
        let group = sites.of(tool).unwrap();
        eprintln!("{tool}: {} {:?}", hosts(group).join(", "), group.note);
        if !installed(program) {
            assert_eq!(group.hosts, [], "{tool}");
            continue;
        }
        assert!(!group.hosts.is_empty(), "{tool}: {group:?}");
        for site in &group.hosts {
            let scheme = if site.tls { "https" } else { "http" };
            let url = url::Url::parse(&format!("{scheme}://{site}/")).unwrap();
            assert_eq!(url.host_str(), Some(site.host.as_str()), "{tool}: as an address writes it");
            assert_eq!(url.port_or_known_default(), Some(site.port), "{tool}");
        }
    }
}

#[tokio::test]
async fn a_missing_tool_is_an_empty_group_with_a_note() {
    let folder = TempDir::new().unwrap();
    let env: Env = [("PATH".to_owned(), folder.path().display().to_string())].into();
    for group in Sites::discover(&env, &folder.path().join("tmp")).await.groups {
        assert_eq!(group.hosts, []);
        assert!(group.note.unwrap().contains("not installed"));
    }
}

#[tokio::test]
async fn a_tool_that_does_not_end_does_not_hold_up() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("npm");
    std::fs::write(&program, "#!/bin/sh\nexec /bin/sleep 1000\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let env: Env = [("PATH".to_owned(), folder.path().display().to_string())].into();
    let began = std::time::Instant::now();
    let group = discover(Tool::Npm, &env, &folder.path().join("tmp")).await;
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    assert!(group.hosts.is_empty() && !group.complete);
    assert!(group.note.unwrap().contains("did not answer"));
}

#[tokio::test]
async fn cargo_uses_the_mirror_that_replaces_its_default() {
    if !installed("cargo") {
        return;
    }
    let mirror = MockServer::start().await;
    let place = mirror.address();
    Mock::given(method("GET"))
        .and(path("/index/config.json"))
        .and(header("authorization", "Basic bWU6czNjcmV0"))
        .respond_with(ResponseTemplate::new(200).set_body_json(serde_json::json!({
            "dl": "https://files.example.org/{crate}/{version}", "api": format!("http://{place}"), "auth-required": true,
        })))
        .mount(&mirror)
        .await;
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join(".cargo")).unwrap();
    let config = format!(
        "[source.crates-io]\nreplace-with = \"near\"\n[source.near]\nregistry = \"sparse+http://me:s3cret@{place}/index/\"\n\
         [registries.own-one]\nindex = \"sparse+http://me:s3cret@{place}/index/\"\ntoken = \"s3cret\"\n"
    );
    std::fs::write(home.path().join(".cargo/config.toml"), config).unwrap();
    let group = discover(Tool::Cargo, &at_home(home.path()), &home.path().join("tmp")).await;
    assert_eq!(hosts(&group), [format!("{place}"), "files.example.org:443".into()], "{group:?}");
    let origins: Vec<Origin> = group.hosts.iter().map(|site| site.origin).collect();
    assert_eq!(origins, [Origin::Configured, Origin::Learned]);
    assert!(!text_of(&group).contains("s3cret"), "{group:?}");
    let (file, text) = &group.files[0];
    assert_eq!(file, Path::new("/box/cache/cargo/config.toml"));
    assert!(
        text.contains(&format!("sparse+http://{place}/index/")) && text.contains("replace-with"),
        "{text}"
    );
    assert!(group.env.iter().any(|(name, _)| name == "CARGO_REGISTRIES_OWN_ONE_TOKEN"), "{group:?}");
    assert_eq!(group.wants, [place.to_string()]);
}

#[tokio::test]
async fn npm_uses_the_registry_and_the_scopes_of_its_files() {
    if !installed("npm") {
        return;
    }
    let mirror = MockServer::start().await;
    let place = mirror.address();
    Mock::given(method("GET"))
        .and(path("/npm/npm/latest"))
        .respond_with(ResponseTemplate::new(200).set_body_json(serde_json::json!({
            "dist": { "tarball": "http://169.254.169.254/latest/meta-data" },
        })))
        .mount(&mirror)
        .await;
    let home = TempDir::new().unwrap();
    let ini = format!(
        "registry=http://me:s3cret@{place}/npm/\n@acme:registry=https://npm.acme.invalid/x/\n\
         //npm.acme.invalid/x/:_authToken=s3cret\n"
    );
    std::fs::write(home.path().join(".npmrc"), ini).unwrap();
    let group = discover(Tool::Npm, &at_home(home.path()), &home.path().join("tmp")).await;
    assert_eq!(hosts(&group), [format!("{place}"), "npm.acme.invalid:443".into()], "{group:?}");
    assert!(!text_of(&group).contains("s3cret"), "{group:?}");
    let npmrc = &group.files.iter().find(|(file, _)| file.ends_with(".npmrc")).unwrap().1;
    assert!(npmrc.contains(&format!("registry=http://{place}/npm/\n")), "{npmrc}");
    assert!(npmrc.contains("@acme:registry=https://npm.acme.invalid/x/\n"), "{npmrc}");
    assert_eq!(group.wants, ["npm.acme.invalid:443".to_owned(), place.to_string()]);
    let note = group.note.unwrap();
    assert!(note.contains("169.254.169.254:80, which is private"), "{note}");
}

#[tokio::test]
async fn pip_uses_its_indexes_and_the_hosts_of_their_files() {
    if !installed("python3") {
        return;
    }
    let mirror = MockServer::start().await;
    let place = mirror.address();
    let page =
        "<a href=\"https://files.example.org/p/pip-1.whl\">x</a><a href=\"../../packages/pip-2.whl\">y</a>";
    Mock::given(method("GET"))
        .and(path("/simple/pip/"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(page, "text/html"))
        .mount(&mirror)
        .await;
    let home = TempDir::new().unwrap();
    let mut env = at_home(home.path());
    env.insert("PIP_INDEX_URL".into(), format!("http://me:s3cret@{place}/simple"));
    env.insert("PIP_EXTRA_INDEX_URL".into(), format!("http://{place}/simple http://{place}/simple/"));
    env.insert("PIP_TRUSTED_HOST".into(), place.ip().to_string());
    let group = discover(Tool::Pip, &env, &home.path().join("tmp")).await;
    assert_eq!(hosts(&group), [format!("{place}"), "files.example.org:443".into()], "{group:?}");
    assert!(!text_of(&group).contains("s3cret"), "{group:?}");
    let var = |name: &str| group.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(var("PIP_INDEX_URL"), Some(format!("http://{place}/simple")));
    assert_eq!(var("UV_DEFAULT_INDEX"), var("PIP_INDEX_URL"));
    assert_eq!(var("PIP_TRUSTED_HOST"), Some(place.ip().to_string()));
    assert_eq!(group.wants, [place.to_string()]);
}

#[tokio::test]
async fn a_book_asks_once_and_again_only_when_something_changed() {
    let folder = TempDir::new().unwrap();
    let (bin, asked) = (folder.path().join("bin"), folder.path().join("asked"));
    std::fs::create_dir(&bin).unwrap();
    let program = bin.join("apt-get");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = indextargets ] && exit 0\necho x >> {}\necho \"'http://apt.example/debian/InRelease' x 0\"\n",
        asked.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let times = || std::fs::read_to_string(&asked).unwrap_or_default().lines().count();
    let env: Env = [("PATH".to_owned(), format!("{}:/bin", bin.display()))].into();
    let (kept, tmp) = (folder.path().join("state/sites"), folder.path().join("state/tmp"));

    let book = Book::new(env.clone(), kept.clone(), tmp.clone());
    assert_eq!(book.known(Tool::Apt), None);
    let (a, b) = tokio::join!(book.group(Tool::Apt), book.group(Tool::Apt));
    assert_eq!((hosts(&a), &a), (vec!["apt.example:80".to_owned()], &b));
    assert_eq!(times(), 1);

    // The next server finds it on disk.
    let next = Book::new(env.clone(), kept.clone(), tmp.clone());
    assert_eq!(next.group(Tool::Apt).await, a);
    assert_eq!(times(), 1);

    let changed = [("APT_CONFIG".to_owned(), "/x".to_owned())].into_iter().chain(env).collect();
    let changed = Book::new(changed, kept, tmp.clone());
    let tasks = Tasks::default();
    let (fresh, stop) = (changed.clone(), tasks.stopping());
    tasks.spawn("sites", OnPanic::Log, async move {
        fresh.keep_fresh(Fill::Now(Tool::ALL.map(|tool| tool.to_string()).to_vec()), stop).await
    });
    changed.group(Tool::Apt).await;
    assert_eq!(times(), 2);
    tasks.stop();
    tasks.drained().await;
}

#[tokio::test]
async fn a_question_writes_in_a_folder_of_its_own_which_goes_also_when_it_is_cut_short() {
    let folder = TempDir::new().unwrap();
    let (bin, asked, tmp) =
        (folder.path().join("bin"), folder.path().join("asked"), folder.path().join("tmp"));
    std::fs::create_dir(&bin).unwrap();
    let program = bin.join("apt-get");
    let script = format!(
        "#!/bin/sh\n: > \"$TMPDIR/left\"\necho \"$PWD $TMPDIR\" > {0}.new\nmv {0}.new {0}\nsleep 60\n",
        asked.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let env: Env = [("PATH".to_owned(), format!("{}:/bin:/usr/bin", bin.display()))].into();

    let began = async {
        loop {
            match std::fs::read_to_string(&asked) {
                Ok(told) => break told,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    };
    let told = tokio::select! {
        group = discover(Tool::Apt, &env, &tmp) => panic!("it has not answered: {group:?}"),
        told = began => told,
    };
    let (at, own) = told.trim().split_once(' ').unwrap();
    assert_eq!((at, Path::new(own).parent()), ("/", Some(tmp.as_path())));
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
}
