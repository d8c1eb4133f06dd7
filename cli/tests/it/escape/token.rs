//! The token of the box, and what the gateway would do for it.

super::table::attempts! { "token";
    token_in_environment {
        tries: "looks for a token in its environment and in that of every process it can read", bare: Stopped,
        stopped_by: "the token is never in an environment", says: "EMPTY",
        run: r##"
for pid in ["self"] + others():
    try:
        text = read(f"/proc/{pid}/environ")
    except OSError:
        continue
    if TOKEN.search(text):
        escaped(f"in the environment of {pid}")
stopped("EMPTY: in no environment")"##,
    }
    token_in_arguments {
        tries: "looks for a token in the arguments of every process it can see", bare: Stopped,
        stopped_by: "the token is never an argument", says: "EMPTY",
        run: r##"
for pid in others():
    try:
        text = read(f"/proc/{pid}/cmdline")
    except OSError:
        continue
    if TOKEN.search(text):
        escaped(f"in the arguments of {pid}")
stopped("EMPTY: in no arguments")"##,
    }
    token_in_memory_of_parents {
        tries: "looks for the token in the memory of the processes above it, and uses it", bare: Works,
        stopped_by: "the worker that holds it is in other namespaces; the first process of the tools never had it", says: "EMPTY|EACCES|EPERM",
        run: r##"
why = []
for pid in parents():
    try:
        for piece in memory(pid):
            for token in set(TOKEN.findall(piece)):
                if token.startswith(b"bgs_") and b"_1_" in token:
                    answer = box_api("POST", "/box/v1/heartbeat", token.decode(), '{"stage":"agent"}')
                    if re.match(rb"HTTP/1.1 20\d", answer):
                        escaped("a token of the memory that the gateway takes")
                    why.append(status(answer))
    except OSError as error:
        why.append(reason(error))
stopped(f"EMPTY: in no memory above: {' '.join(why)}")"##,
    }
    token_in_memory_of_any {
        tries: "looks for a token in the memory of every process it can see, the first of the box included", bare: Untried("it would read the memory of the host's processes"),
        stopped_by: "no process that the tools see has had it", says: "EMPTY",
        run: r##"
for pid in others():
    try:
        for piece in memory(pid):
            if TOKEN.search(piece):
                escaped(f"in the memory of {pid}")
    except OSError:
        continue
stopped("EMPTY: in no memory")"##,
    }
    token_in_files {
        tries: "looks for a token in every file of the box that is not the system's", bare: Untried("it would search the host's files"),
        stopped_by: "the token is never in a file that the box shows", says: "EMPTY",
        run: r##"
roots = [f"/{n}" for n in os.listdir("/") if n not in ("proc", "sys", "usr", "lib", "lib64", "lib32", "bin", "sbin", "dev")]
done = sh("timeout 50 grep -rIaohsE -m1 --exclude-dir=.escape --exclude-dir=.rustup --exclude-dir=.cargo --exclude-dir=versions --exclude-dir=node_modules 'bg[bs]_[0-9A-HJKMNP-TV-Z]{26}_[0-9]+_[0-9a-z_]{20,}' " + " ".join(roots) + " | head -1")
escaped("in a file") if done.stdout.strip() else stopped("EMPTY: in no file")"##,
    }
    token_in_git_configuration {
        tries: "looks for a token in git's configuration, remotes and credential helpers", bare: Stopped,
        stopped_by: "git in the box has no credential: the tunnel knows whose it is", says: "EMPTY",
        run: r##"
text = git("config", "--list", "--show-origin").stdout + git("remote", "-v").stdout
text += subprocess.run(["git", "credential", "fill"], input="url=" + git("remote", "get-url", "origin").stdout, capture_output=True, text=True, timeout=20).stdout
if TOKEN.search(text.encode()) or "extraheader" in text.lower() or "password=" in text:
    escaped("git has a credential")
stopped("EMPTY: git has none")"##,
    }
    bootstrap_again {
        tries: "attaches a second time, with a bootstrap token that is not the right one", bare: Stopped,
        stopped_by: "the tunnel carries no box API; the gateway checks the token", says: "404|401|403|409",
        run: r##"
task, number = os.environ.get("BGAGENT_SESSION", "01ARZ3NDEKTSV4RRFFQ69G5FAV-1").rsplit("-", 1)
body = json.dumps({"task": task, "attempt": int(number), "instance": "me", "token": f"bgb_{task}_{number}_" + "0" * 64})
refused(box_api("POST", "/box/v1/attach", f"bgb_{task}_{number}_" + "0" * 64, body))"##,
    }
    token_of_another_attempt {
        tries: "uses a rightly signed token of another task's earlier worker", bare: Stopped,
        stopped_by: "the gateway asks the record on every call: 409; the tunnel carries no box API", says: "404|409|403",
        run: r##"refused(box_api("POST", "/box/v1/heartbeat", F.old_token, '{"stage":"agent"}'))"##,
    }
    git_of_another_task {
        tries: "fetches the repository of another task", bare: Stopped,
        stopped_by: "the git proxy serves the repository of the caller's own task", says: "403|401|404|409",
        run: r##"refused(box_api("GET", f"/git/{F.victim}.git/info/refs?service=git-upload-pack", F.old_token))"##,
    }
    forged_token {
        tries: "makes up a token of its own task", bare: Stopped,
        stopped_by: "tokens are signed; in the tunnel a header of the box's own counts for nothing", says: "404|401|403",
        run: r##"
task, number = os.environ.get("BGAGENT_SESSION", "01ARZ3NDEKTSV4RRFFQ69G5FAV-1").rsplit("-", 1)
refused(box_api("POST", "/box/v1/heartbeat", f"bgs_{task}_{number}_me_" + "0" * 64, '{"stage":"agent"}'))"##,
    }
    report_a_result_itself {
        tries: "reports a result in the worker's place", bare: Stopped,
        stopped_by: "the tunnel carries no box API", says: "404|401|403",
        run: r##"refused(box_api("POST", "/box/v1/result", "none", "{}"))"##,
    }
    write_events_itself {
        tries: "writes events into the task's record", bare: Stopped,
        stopped_by: "the tunnel carries no box API", says: "404|401|403",
        run: r##"refused(box_api("POST", "/box/v1/events", "none", '{"events":[]}'))"##,
    }
    bypass_the_budget {
        tries: "calls the model past the worker, and so past turns and budget", bare: Stopped,
        stopped_by: "the tunnel carries no model calls", says: "404|401|403",
        run: r##"
body = '{"model":"demo/attempts","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}'
refused(box_api("POST", "/model/v1/messages", "none", body, "x-bgagent-turn: 1\r\n"))"##,
    }
    tunnel_in_the_tunnel {
        tries: "opens a tunnel through the tunnel, to be served as another caller", bare: Stopped,
        stopped_by: "the tunnel carries no box API", says: "404|401|403|400|426",
        run: r##"
refused(box_api("GET", "/box/v1/tunnel", F.old_token, "", "Upgrade: bgagent-tunnel\r\nConnection: Upgrade\r\n").replace(b"HTTP/1.1 101", b"HTTP/1.1 200"))"##,
    }
    use_the_owners_api {
        tries: "calls the people's API with the owner's key, to give itself another task", bare: Works,
        stopped_by: "the key is not in the box, and its server not reachable from it", says: "ENOENT|EACCES|403",
        run: r##"
key = read(F.state + "/owner-key").decode().strip()
host, port = re.match(r"http://([^:/]+):(\d+)", F.server).groups()
sock = connect_through(host, int(port))
refused(talk(sock, f"GET /v1/tasks HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()))"##,
    }
}
