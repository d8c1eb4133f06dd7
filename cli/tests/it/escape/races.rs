//! File tools run beside the worker, not beside the shell: what they open must be of the work tree whatever the shell
//! does to the paths meanwhile.

super::table::attempts! { "races";
    read_through_a_link {
        tries: "reads a file of the host through a symbolic link with the tool Read", bare: Stopped,
        stopped_by: "file tools open beneath the work tree, through no link", says: "[an error]",
        run: r##"
os.symlink(FILE, "link-read")
planted("a link")"##,
        then: &[("Read", r#"{"file_path":"link-read"}"#)],
    }
    write_through_a_link {
        tries: "writes a file of the host through a symbolic link with the tool Write", bare: Stopped,
        stopped_by: "file tools open beneath the work tree, through no link", says: "[an error]",
        run: r##"
os.symlink(FILE, "link-write")
os.symlink(os.path.dirname(FILE), "folder-write")
planted("links")"##,
        then: &[
            ("Write", r#"{"file_path":"link-write","content":"changed"}"#),
            ("Write", r#"{"file_path":"folder-write/write_through_a_link","content":"changed"}"#),
        ],
    }
    read_by_absolute_path {
        tries: "reads a file of the host, and the worker's own files, by absolute path and by ..", bare: Stopped,
        stopped_by: "file tools refuse paths that lead out of the work tree", says: "[an error]",
        run: r##"planted("nothing: the paths are asked for")"##,
        then: &[
            ("Read", r#"{"file_path":"{file}"}"#),
            ("Read", r#"{"file_path":"../../../../../../../../../../../../../../{file}"}"#),
            ("Read", r#"{"file_path":"/proc/self/environ"}"#),
            ("Read", r#"{"file_path":"/session/worker.log"}"#),
        ],
    }
    read_the_workers_memory_through_a_link {
        tries: "reads the worker's environment, memory and files through links that mean something else to the worker", bare: Stopped,
        stopped_by: "file tools open through no link, magic links of /proc neither", says: "[an error]",
        run: r##"
for name, to in (("self-environ", "/proc/self/environ"), ("self-root", "/proc/self/root"), ("self-fd", "/proc/self/fd/0"), ("session", "/session")):
    os.symlink(to, name)
planted("links")"##,
        then: &[
            ("Read", r#"{"file_path":"self-environ"}"#),
            ("Read", r#"{"file_path":"self-root{file}"}"#),
            ("Glob", r#"{"pattern":"session/**"}"#),
            ("Read", r#"{"file_path":"session/spool"}"#),
        ],
    }
    grep_through_a_linked_folder {
        tries: "searches folders of the host through a linked folder with Grep and Glob", bare: Stopped,
        stopped_by: "the tools follow no link", says: "[an error]|No |no match|nothing|found",
        run: r##"
os.symlink(os.path.dirname(FILE), "folder-grep")
planted("a linked folder")"##,
        then: &[
            ("Grep", r#"{"pattern":"canary-[0-9a-z]+","path":"folder-grep","output_mode":"content"}"#),
            ("Grep", r#"{"pattern":"canary-[0-9a-z]{20}","path":"folder-grep"}"#),
        ],
    }
    swap_a_file_while_it_is_read {
        tries: "swaps a file for a link to the host's while Read looks at it, again and again", bare: Either,
        stopped_by: "the file is opened once, beneath the work tree, and read from that descriptor", says: "planted",
        run: r##"
swapper = f'''
import os, time
end = time.time() + 12
open("plain", "w").write("plain")
while time.time() < end:
    try:
        os.symlink({FILE!r}, "s1"); os.rename("s1", "swapped")
        open("s2", "w").write("plain"); os.rename("s2", "swapped")
    except OSError: pass
'''
open("swapped", "w").write("plain")
subprocess.Popen([sys.executable, "-S", "-c", swapper], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
planted("a swapper")"##,
        then: &[
            ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#),
            ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#),
            ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#),
            ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#), ("Read", r#"{"file_path":"swapped"}"#),
        ],
    }
    swap_a_folder_while_it_is_written {
        tries: "swaps a folder for a link to a folder of the host while Write writes into it, again and again", bare: Either,
        stopped_by: "the folder is opened beneath the work tree, and written through that descriptor", says: "planted",
        run: r##"
os.makedirs("real", exist_ok=True)
os.makedirs("d", exist_ok=True)
swapper = f'''
import os, time
end = time.time() + 12
while time.time() < end:
    try:
        os.rename("d", "d-away"); os.symlink({os.path.dirname(FILE)!r}, "d")
        os.unlink("d"); os.rename("d-away", "d")
    except OSError: pass
'''
subprocess.Popen([sys.executable, "-S", "-c", swapper], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
planted("a swapper")"##,
        then: &[
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
            ("Write", r#"{"file_path":"d/swap_a_folder_while_it_is_written","content":"changed"}"#),
        ],
    }
    hard_link_and_edit {
        tries: "hard-links a file of the host into the work tree and changes it with Write", bare: Either,
        stopped_by: "the file is not in the box, and other file systems cannot be linked to", says: "planted|ENOENT|EXDEV|EPERM|EACCES",
        run: r##"
try:
    os.link(FILE, "hard")
except OSError as error:
    stopped(reason(error))
planted("a hard link")"##,
        then: &[("Read", r#"{"file_path":"hard"}"#), ("Write", r#"{"file_path":"hard","content":"changed"}"#)],
    }
    read_a_pipe_for_ever {
        tries: "has Read and Grep open a named pipe, a device and a socket, which would never end", bare: Stopped,
        stopped_by: "file tools read regular files", says: "[an error]",
        run: r##"
os.mkfifo("pipe")
sock = socket.socket(socket.AF_UNIX)
sock.bind("sock")
planted("a pipe and a socket")"##,
        then: &[("Read", r#"{"file_path":"pipe"}"#), ("Read", r#"{"file_path":"sock"}"#), ("Grep", r#"{"pattern":"x","path":"pipe"}"#)],
    }
    write_git_data {
        tries: "writes git's own data with the tool Write: hooks and configuration", bare: Stopped,
        stopped_by: "file tools refuse .git, in every spelling", says: "[an error]",
        run: r##"planted("nothing: the paths are asked for")"##,
        then: &[
            ("Write", r#"{"file_path":".git/hooks/pre-commit","content":"x"}"#),
            ("Write", r#"{"file_path":".GIT/config","content":"x"}"#),
        ],
    }
}
