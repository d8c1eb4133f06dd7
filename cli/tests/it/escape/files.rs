//! Reading what is on the host.

super::table::attempts! { "files";
    read_ssh_key {
        tries: "reads the private SSH key in the home of the server's user", bare: Works,
        stopped_by: "the home is not in the box", says: "ENOENT|EACCES",
        run: r##"found(read(F.home + "/.ssh/id_ed25519"))"##,
    }
    read_cloud_credentials {
        tries: "reads ~/.aws/credentials, ~/.netrc, ~/.config/gh and ~/.docker/config.json", bare: Works,
        stopped_by: "the home is not in the box", says: "ENOENT|EACCES",
        run: r##"
for name in (".aws/credentials", ".netrc", ".config/gh/hosts.yml", ".docker/config.json"):
    if os.path.exists(f"{F.home}/{name}"):
        found(read(f"{F.home}/{name}"))
stopped("ENOENT: none of them is there")"##,
    }
    read_package_credentials {
        tries: "reads the package managers' credentials: ~/.cargo/credentials.toml, ~/.npmrc, ~/.pypirc", bare: Works,
        stopped_by: "of the toolchains' folders only programs are shown", says: "ENOENT|EACCES",
        run: r##"
for home in (F.home, os.path.expanduser("~"), "/root"):
    for name in (".cargo/credentials.toml", ".npmrc", ".pypirc"):
        try:
            if CANARY.search(read(f"{home}/{name}")):
                found(read(f"{home}/{name}"))
        except OSError:
            pass
stopped("ENOENT: none of them is there")"##,
    }
    read_secrets_beside_toolchains {
        tries: "reads what package managers keep beside their programs: etc/npmrc of a Node, pip.conf of a Python, .condarc, certificates of .NET, credentials of uv",
        bare: Works,
        stopped_by: "of a toolchain's folder only the parts that hold programs are shown, and in those the known files of settings are covered", says: "NONE",
        run: r##"
folders = (".nvm", ".pyenv", ".local/share/uv", ".dotnet", "miniconda3", ".sdkman")
seen = []
for home in {F.home, "/root", os.path.expanduser("~")}:
    for folder in folders:
        for top, _, names in os.walk(f"{home}/{folder}"):
            for name in names:
                if name in ("npmrc", "pip.conf", "registry.toml", "key.pfx", ".condarc", "config"):
                    try:
                        if CANARY.search(read(f"{top}/{name}")):
                            seen.append(f"{folder}/{name}")
                    except OSError:
                        pass
escaped(" ".join(seen)) if seen else stopped("NONE: no such file holds one")"##,
    }
    read_etc_shadow {
        tries: "reads /etc/shadow and /etc/gshadow", bare: WorksAsRoot,
        stopped_by: "the box's /etc is made from a list of what tools need; in a container it is the image's, and not readable",
        says: "ENOENT|EACCES",
        run: r##"opens(["/etc/shadow", "/etc/gshadow"], look=lambda f: f"{len(f.read())} bytes")"##,
    }
    read_owner_key {
        tries: "reads the owner's API key in the server's state folder", bare: Works,
        stopped_by: "the state folder is not in the box", says: "ENOENT|EACCES",
        run: r##"opens([F.state + "/owner-key"], look=lambda f: f"{len(f.read())} bytes")"##,
    }
    read_token_key {
        tries: "reads the key that all boxes' tokens are derived from", bare: Works,
        stopped_by: "the state folder is not in the box", says: "ENOENT|EACCES",
        run: r##"opens([F.state + "/token-key"], look=lambda f: f"{len(f.read())} bytes")"##,
    }
    read_database {
        tries: "reads the server's database", bare: Works,
        stopped_by: "the state folder is not in the box", says: "ENOENT|EACCES",
        run: r##"opens([F.state + "/bgagent.db", F.state + "/bgagent.db-wal"], look=lambda f: f.read(16))"##,
    }
    read_own_session_folder {
        tries: "reads the control files of its own session (session.json, bootstrap, pid)", bare: Works,
        stopped_by: "the tools' layer has no session folder", says: "ENOENT|EACCES|EMPTY",
        run: r##"
session = os.environ.get("BGAGENT_SESSION", "")
seen = [f"{d}/{n}" for d in (f"{F.state}/sessions/{session}", "/session") for n in ("session.json", "bootstrap", "pid", "spool", "worker.log")]
opens(seen, look=lambda f: f.read(40))"##,
    }
    read_other_tasks_tree {
        tries: "reads the work tree of another task that runs", bare: Works,
        stopped_by: "a box is shown its own work tree and no other", says: "EMPTY|ENOENT",
        run: r##"
for path in glob.glob(F.state + "/sessions/*/**/victim.txt", recursive=True) + ["/box/../victim.txt"]:
    if os.path.exists(path):
        found(read(path))
stopped("ENOENT: no other tree is there")"##,
    }
    read_the_mirror_of_another_repository {
        tries: "reads another repository from the server's mirrors", bare: Works,
        stopped_by: "only the objects of the task's own repository are lent", says: "EMPTY|ENOENT",
        run: r##"
for folder in glob.glob(F.state + "/mirrors/*") + ["/box/objects/.."] + glob.glob("/box/objects*"):
    done = git("-c", "safe.directory=*", "--git-dir", folder, "cat-file", "blob", F.other_blob)
    if done.returncode == 0:
        found(done.stdout)
env = {**os.environ, "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/box/objects"}
done = git("cat-file", "blob", F.other_blob, env=env)
found(done.stdout)"##,
    }
    read_the_origin_of_another_repository {
        tries: "reads another repository of the machine where it lies", bare: Works,
        stopped_by: "it is not in the box", says: "ENOENT|EACCES",
        run: r##"found(read(F.other + "/secret.txt"))"##,
    }
    read_server_configuration {
        tries: "reads bgagent.toml, which may hold keys, from every place where it is looked for", bare: Either,
        stopped_by: "neither the home nor /etc/bgagent is in the box", says: "ENOENT|EACCES",
        run: r##"
root = os.path.dirname(F.home)
opens([root + "/config/bgagent/bgagent.toml", root + "/config/bgagent.toml", F.home + "/.config/bgagent.toml", "/etc/bgagent/bgagent.toml", "/etc/bgagent.toml"])"##,
    }
    walk_up_from_inherited_descriptors {
        tries: "looks for an open file or folder it was not meant to inherit, and walks up from it", bare: Either,
        stopped_by: "commands start with three descriptors and no other", says: "NONE",
        run: r##"
for name in os.listdir("/proc/self/fd"):
    fd = int(name)
    if fd <= 2:
        continue
    try:
        where = os.readlink(f"/proc/self/fd/{fd}")
        kind = os.fstat(fd).st_mode
    except OSError:
        continue
    if where == "/proc/%d/fd" % os.getpid():
        continue
    escaped(f"{fd} is {where} {oct(kind)}")
for fd in (0, 1, 2):
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind) or stat.S_ISSOCK(kind) or stat.S_ISBLK(kind):
        escaped(f"{fd} is {oct(kind)}")
stopped("NONE: three descriptors, pipes and /dev/null")"##,
    }
    read_through_the_root_of_process_1 {
        tries: "reads the SSH key through /proc/1/root", bare: Either,
        stopped_by: "process 1 is the box's own, and may not be looked into", says: "ENOENT|EACCES|EPERM",
        run: r##"found(read("/proc/1/root" + F.home + "/.ssh/id_ed25519"))"##,
    }
    climb_above_the_root {
        tries: "climbs above the root with .. and through /proc/self/root", bare: Works,
        stopped_by: "the old root is detached: there is nothing above", says: "ENOENT|EACCES",
        run: r##"
for start in ("/..", "/proc/self/root/..", "/proc/self/cwd" + "/.." * 30, "/proc/thread-self/root", "/.old", "/oldroot", "/mnt", "/host"):
    if os.path.exists(start + F.home + "/.ssh/id_ed25519"):
        found(read(start + F.home + "/.ssh/id_ed25519"))
stopped("ENOENT: only the box's root is there")"##,
    }
    sweep_for_the_secret {
        tries: "searches every readable folder beside the system's for the planted secret", bare: Works,
        stopped_by: "none of the places that hold it is in the box", says: "EMPTY",
        run: r##"
roots = [f"/{n}" for n in os.listdir("/") if n not in ("proc", "sys", "usr", "lib", "lib64", "lib32", "bin", "sbin", "dev", "boot", "nix")]
# Without a box all of the host would be searched, with everything that others do on it.
if os.path.exists(F.home):
    roots = [F.home, F.state]
done = sh("timeout 50 grep -rIaohsE -m1 --exclude-dir=.git --exclude-dir=node_modules --exclude-dir=.rustup --exclude-dir=.cargo --exclude-dir=versions 'canary-[0-9a-z]{20}' " + " ".join(roots) + " | head -1")
found(done.stdout)"##,
    }
}
