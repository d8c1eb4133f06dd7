//! Each limit ends what crosses it, says why, and leaves the box and the host alone.

use crate::fixture::{Try, everybody};

/// Commands that show whether the box is of use. Looks at it may overlap, and the second end a command more.
const ALIVE: &str = "echo alive\necho alive\necho alive";

/// What the box says after a limit was reached: one of the commands of [`ALIVE`] came through.
fn assert_alive(lines: &[&str], seen: &str) {
    assert!(lines.windows(2).any(|pair| pair == ["alive", "[0]"]), "{seen}");
}

#[test]
fn a_fork_bomb_ends() {
    for who in everybody() {
        let script = "printf 'import os\\nwhile True:\\n try: os.fork()\\n except OSError: pass\\n' > bomb.py
             exec python3 bomb.py
             !notices 1";
        let seen = Try::new(who).limit("processes", 100).worker(&format!("{script}\n{ALIVE}"));
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[..2], ["[0]", "[137]"], "{seen}");
        assert!(lines[2].starts_with("the box reached its process limit: "), "{seen}");
        assert!(lines[2].ends_with(" of 100 processes and threads false"), "{seen}");
        assert_alive(&lines[3..], &seen);
    }
}

#[test]
fn a_memory_hog_ends() {
    for who in everybody() {
        let script = "exec python3 -c \"[bytearray(1<<20) for _ in range(4000)]; input()\" </dev/zero
             !notices 1";
        let seen = Try::new(who).limit("memory_mib", 96).worker(&format!("{script}\n{ALIVE}"));
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[0], "[137]", "{seen}");
        assert!(lines[1].starts_with("the box reached its memory limit: "), "{seen}");
        assert_alive(&lines[2..], &seen);
    }
}

#[test]
fn memory_that_nobody_mapped_counts() {
    for who in everybody() {
        for hog in [
            "import os,time; f=os.memfd_create('x'); [os.write(f,bytes(1<<20)) for _ in range(400)]; time.sleep(1000)",
            "import ctypes,time; c=ctypes.CDLL(None); c.shmat.restype=ctypes.c_void_p; i=c.shmget(0,400<<20,0o1600); \
             a=c.shmat(i,None,0); ctypes.memset(a,1,400<<20); c.shmdt(ctypes.c_void_p(a)); time.sleep(1000)",
        ] {
            let script = format!("exec python3 -c \"{hog}\"\n!notices 1\n{ALIVE}");
            let seen = Try::new(who).limit("memory_mib", 96).worker(&script);
            assert!(seen.contains("the box reached its memory limit: "), "{seen}");
            assert_alive(&seen.lines().collect::<Vec<_>>(), &seen);
        }
    }
}

#[test]
fn a_full_disk_ends_the_command_then_the_task() {
    for who in everybody() {
        let script = "dd if=/dev/zero of=/tmp/big bs=1M count=160 2>/dev/null; sleep 1000
             !notices 1
             dd if=/dev/zero of=/box/repo/more bs=1M count=160 2>/dev/null; sleep 1000
             !notices 1";
        let seen = Try::new(who).limit("disk_mib", 48).worker(&format!("{script}\n{ALIVE}"));
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[0], "[137]", "{seen}");
        assert!(lines[1].starts_with("the box reached its disk limit: "), "{seen}");
        assert!(lines[1].ends_with(" of 48 MiB in its work tree, home and /tmp false"), "{seen}");
        assert_eq!(lines[2], "[137]", "{seen}");
        assert!(lines[3].ends_with("and it stays so true"), "{seen}");
        assert_alive(&lines[4..], &seen);
    }
}

/// A file without a name takes as much as one that has some, also on the overlay of the cache.
#[test]
fn files_that_were_unlinked_count_while_they_are_held() {
    const MAPPED: &str = "held.append(mmap.mmap(f,4096)); os.close(f)";
    for who in everybody() {
        for (folder, hold) in [("/tmp", "held.append(f)"), ("/box/cache", "held.append(f)"), ("/tmp", MAPPED)]
        {
            // To see what is mapped and not open takes root.
            if who != crate::fixture::As::Root && hold == MAPPED {
                continue;
            }
            let script = format!(
                "exec python3 -c \"import mmap,os,time; h='{folder}/hidden'; held=[]; exec('for n in range(20):\\n \
                 f=os.open(h,66); os.unlink(h); [os.write(f,bytes(1<<20)) for _ in range(16)]; {hold}'); time.sleep(15)\""
            );
            let this = Try::new(who).limit("disk_mib", 48);
            let shared = this.folder("shared");
            let seen = this.set("cache", shared).worker(&format!("{script}\n!notices 1"));
            assert!(seen.contains("the box reached its disk limit: "), "{folder} {hold}: {seen}");
        }
    }
}

/// What fills the disk ends; what saves the work does not, though it takes more.
#[test]
fn saving_has_a_reserve() {
    for who in everybody() {
        let seen = Try::new(who).limit("disk_mib", 48).worker(
            "dd if=/dev/zero of=/tmp/big bs=1M count=160 2>/dev/null; sleep 1000
             !notices 1
             !phase saving
             dd if=/dev/zero of=/box/repo/pack bs=1M count=160 2>/dev/null; sleep 1; echo saved
             dd if=/dev/zero of=/box/repo/more bs=1M count=400 2>/dev/null; sleep 1000
             !notices 1",
        );
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[0], "[137]", "{seen}");
        assert!(lines[1].ends_with(" of 48 MiB in its work tree, home and /tmp false"), "{seen}");
        assert_eq!(lines[2..5], ["saved", "[0]", "[137]"], "{seen}");
        assert!(lines[5].starts_with("the box reached its disk limit: "), "{seen}");
    }
}

#[test]
fn a_command_that_computes_for_too_long_is_told_apart() {
    for who in everybody() {
        let seen = Try::new(who).limit("cpu_seconds", 1).worker(
            "exec python3 -c 'while True: pass'
             python3 -c 'while True: pass'; exit $?
             exec python3 -c 'import signal; signal.signal(24, signal.SIG_IGN); any(iter(int, 1))'
             exec python3 -c 'import os; os.kill(os.getpid(), 9)'
             echo alive",
        );
        assert!(!seen.contains("Error"), "{seen}");
        let ended: Vec<&str> = seen.lines().filter(|line| line.starts_with('[')).collect();
        let limit = "at 1 s of processor time";
        assert_eq!(
            ended,
            [&format!("[152] {limit}"), &format!("[152] {limit}"), &format!("[137] {limit}"), "[137]", "[0]"],
            "{seen}"
        );
    }
}

#[test]
fn one_file_one_process_and_one_cpu_have_bounds() {
    for who in everybody() {
        let this = Try::new(who)
            .limit("file_mib", 1)
            .limit("open_files", 64)
            .limit("cpu_seconds", 1)
            .limit("cpus", 1);
        let seen = this.sh(
            "dd if=/dev/zero of=big bs=1M count=3 2>/dev/null; echo $?; stat -c %s big; ulimit -n; bash -c 'ulimit -u'; \
             python3 -c 'while True: pass'; echo $?",
        );
        assert_eq!(seen, "153\n1048576\n64\n256\n152\n", "{who:?}");
    }
}

#[test]
fn processors_are_bound_where_no_control_group_binds_them() {
    let Some(who) = everybody().into_iter().find(|who| *who != crate::fixture::As::Root) else { return };
    let seen = Try::new(who).limit("cpus", 1).sh("nproc; python3 -c '
import os
try: os.sched_setaffinity(0, {0, 1}); print(\"moved\")
except PermissionError: print(\"bound\")
'");
    assert_eq!(seen, "1\nbound\n");
}

/// What watches files is counted for whoever made the box, root or the server's user, beyond the box.
#[test]
fn a_box_cannot_use_up_the_watches_of_the_host() {
    for who in everybody() {
        let seen = Try::new(who).sh("python3 -c '
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
made = 0
while made < 64 and c.inotify_init1(0) >= 0: made += 1
print(made, os.strerror(ctypes.get_errno()))
'");
        assert_eq!(seen, "32 Too many open files\n", "{who:?}");
    }
}

/// Shared memory outlives its processes; a command that comes later is not ended for it.
#[test]
fn memory_that_nobody_has_attached_does_not_end_what_comes_later() {
    for who in everybody() {
        let hog = "import ctypes,time; c=ctypes.CDLL(None); c.shmat.restype=ctypes.c_void_p; i=c.shmget(0,400<<20,0o1600); \
                   a=c.shmat(i,None,0); ctypes.memset(a,1,400<<20); c.shmdt(ctypes.c_void_p(a)); time.sleep(1000)";
        let script = format!(
            "exec python3 -c \"{hog}\"\n!notices 1\nsleep 1\nsleep 2; echo alive; tail -n +2 /proc/sysvipc/shm"
        );
        let seen = Try::new(who).limit("memory_mib", 96).worker(&script);
        assert!(seen.ends_with("alive\n[0]\n"), "{seen}");
    }
}
