//! Writing outside the work tree.

super::table::attempts! { "writes";
    write_usr_local_bin {
        tries: "puts a program into /usr/local/bin", bare: WorksAsRoot,
        stopped_by: "the system's folders are mounted read-only", says: "EROFS|EACCES|EPERM",
        run: r##"
open(f"/usr/local/bin/escaped-{NAME}", "w").close()
escaped("written")"##,
    }
    write_etc {
        tries: "opens /etc/passwd and /etc/ld.so.preload for writing", bare: WorksAsRoot,
        stopped_by: "/etc is read-only", says: "EROFS|EACCES|EPERM|ENOENT",
        run: r##"opens(["/etc/passwd"], "ab")"##,
    }
    write_home_of_the_person {
        tries: "writes a file in the home of the server's user", bare: Works,
        stopped_by: "the home is not in the box", says: "ENOENT|EACCES|EROFS",
        run: r##"
with open(FILE, "w") as file:
    file.write("changed")
escaped("written")"##,
    }
    write_toolchain {
        tries: "changes a toolchain or library that the host uses too", bare: Works,
        stopped_by: "toolchains are mounted read-only", says: "EROFS|EACCES|EPERM|NONE",
        run: r##"
import shutil
tools = [shutil.which(t) for t in ("cargo", "rustc", "node", "npm", "go", "git", "python3")]
folders = {os.path.dirname(os.path.realpath(t)) for t in tools if t} | {os.path.dirname(os.__file__)}
def attempt(folder):
    def run():
        path = f"{folder}/escaped-{NAME}"
        open(path, "w").close()
        os.unlink(path)
        return f"written in {folder}"
    return run
any_of("writing", [attempt(f) for f in sorted(folders)])"##,
    }
    write_mirror_objects {
        tries: "writes into the mirror's objects, which other tasks are given", bare: Works,
        stopped_by: "objects are lent read-only", says: "EROFS|EACCES|EPERM|ENOENT",
        run: r##"
try:
    lent = [l.strip() for l in open(".git/objects/info/alternates")]
except OSError:
    lent = []
def attempt(folder):
    def run():
        path = f"{folder}/escaped-{NAME}"
        open(path, "w").close()
        os.unlink(path)
        return f"written in {folder}"
    return run
any_of("writing", [attempt(f) for f in ["/box/objects"] + lent + glob.glob(F.state + "/mirrors/*/objects")])"##,
    }
    change_ownership_of_lent_objects {
        tries: "makes the mirror's objects its own with chmod and chown", bare: Works,
        stopped_by: "objects are lent read-only and belong to another user", says: "EROFS|EACCES|EPERM|ENOENT",
        run: r##"
def change(folder):
    return lambda: os.chmod(folder, os.stat(folder).st_mode) or f"chmod of {folder}"
any_of("changing", [change(f) for f in ["/box/objects"] + glob.glob(F.state + "/mirrors/*/objects")])"##,
    }
    write_state_folder {
        tries: "opens the server's database for writing", bare: Works,
        stopped_by: "the state folder is not in the box", says: "ENOENT|EACCES",
        run: r##"opens([F.state + "/bgagent.db"], "r+b")"##,
    }
    write_session_control_files {
        tries: "writes the session's control files (exit, pid), to lie about how it ended", bare: Works,
        stopped_by: "the tools' layer has no session folder", says: "ENOENT|EACCES",
        run: r##"
session = os.environ.get("BGAGENT_SESSION", "")
opens([f"{F.state}/sessions/{session}/session.json", "/session/session.json", "/session/pid"], "r+b")"##,
    }
    overwrite_the_binary {
        tries: "overwrites the program of the first process through /proc/1/exe", bare: Untried("it would overwrite the host's init"),
        stopped_by: "the first process is not dumpable; its program is mounted read-only", says: "EACCES|ETXTBSY|EROFS|ENOENT|EPERM",
        run: r##"opens(["/proc/1/exe", "/proc/self/exe"], "r+b")"##,
    }
    hard_link_a_host_file {
        tries: "hard-links a file of the host into the work tree and writes through it", bare: Works,
        stopped_by: "the file is not in the box", says: "ENOENT|EXDEV|EPERM|EACCES",
        run: r##"
os.link(FILE, "/tmp/linked")
os.unlink("/tmp/linked")
escaped("linked")"##,
    }
    leave_a_file_in_dev_shm {
        tries: "leaves a file in the host's /dev/shm", bare: Works,
        stopped_by: "the box has a /dev/shm of its own", says: "planted",
        run: r##"
open(f"/dev/shm/escaped-{NAME}", "w").close()
planted("in /dev/shm")"##,
    }
    leave_a_file_in_tmp {
        tries: "leaves files in the host's /tmp and /var/tmp", bare: Works,
        stopped_by: "the box has a /tmp of its own", says: "planted",
        run: r##"
open(f"/tmp/escaped-{NAME}", "w").close()
planted("in /tmp")"##,
    }
    attach_shared_memory {
        tries: "attaches a System V shared memory segment of the host", bare: Works,
        stopped_by: "an IPC namespace", says: "EINVAL|EIDRM|ENOSYS|EPERM|NONE",
        run: r##"
if F.shm is None:
    stopped("NONE: the host has none")
call("shmat", F.shm, 0, 0)
escaped("attached")"##,
    }
    cache_of_another_repository {
        tries: "reads and poisons the dependency cache of another repository", bare: Works,
        stopped_by: "a box sees one cache: its own repository's, read-only, beneath a private layer", says: "ENOENT|EACCES|EROFS",
        run: r##"opens([F.state + "/caches/other/1/package"], "r+b", look=lambda f: f.read(40))"##,
    }
}
