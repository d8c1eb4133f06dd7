//! Outliving the task.

super::table::attempts! { "ending";
    daemon_of_its_own_session {
        tries: "leaves a daemon in a session of its own, with an empty environment", bare: Stopped,
        stopped_by: "the first process of the PID namespace ends, and the kernel ends all the others", says: "planted",
        run: r##"
subprocess.Popen(["/usr/bin/python3", "-S", "-c", "import time; time.sleep(300)", f"survives-{NAME}"], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
planted("a daemon")"##,
    }
    daemon_that_hears_no_signal {
        tries: "leaves a double-forked daemon that ignores every signal it can", bare: Stopped,
        stopped_by: "the kernel ends what is in the PID namespace, with SIGKILL", says: "planted",
        run: r##"
code = "import os,signal,time\nfor s in range(1,65):\n try: signal.signal(s, signal.SIG_IGN)\n except (OSError, ValueError): pass\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(300)"
subprocess.Popen(["/usr/bin/python3", "-S", "-c", code, f"survives-{NAME}"], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/").wait()
planted("a daemon")"##,
    }
    process_that_is_stopped {
        tries: "leaves a stopped process, which acts on no signal but one", bare: Stopped,
        stopped_by: "the kernel ends what is in the PID namespace, with SIGKILL", says: "planted",
        run: r##"
child = subprocess.Popen(["/usr/bin/python3", "-S", "-c", "import time; time.sleep(300)", f"survives-{NAME}"], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
os.kill(child.pid, signal.SIGSTOP)
planted("a stopped process")"##,
    }
    process_that_forks_away {
        tries: "forks and ends again and again, so that whoever looks for it finds only its past", bare: Untried("it might win against a sweep of the host's processes"),
        stopped_by: "the kernel ends a PID namespace as a whole", says: "planted",
        run: r##"
code = "import os,time\nend=time.time()+60\nwhile time.time()<end:\n if os.fork(): os._exit(0)\n os.setsid()\n time.sleep(0.001)"
subprocess.Popen(["/usr/bin/python3", "-S", "-c", code, f"survives-{NAME}"], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
planted("a process that forks away")"##,
    }
    kill_the_first_process {
        tries: "ends, stops or confuses the first process of the box, which starts every command", bare: Untried("it would signal the host's init"),
        stopped_by: "the kernel drops signals to the first process that it has no handler for", says: "ALIVE",
        run: r##"
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP, signal.SIGUSR1, signal.SIGSEGV, signal.SIGABRT, signal.SIGCHLD, signal.SIGKILL):
    try:
        os.kill(1, number)
    except OSError:
        pass
time.sleep(0.3)
state = open("/proc/1/stat").read().rsplit(")", 1)[1].split()[0]
escaped(f"process 1 is {state}") if state in "TtZX" else stopped(f"ALIVE: process 1 is {state}")"##,
    }
    hold_the_tools_output_open {
        tries: "holds a tool's output open in the background, so that the tool never ends", bare: Stopped,
        stopped_by: "a tool ends with its command; what stays behind is told and its output left", says: "planted",
        run: r##"
subprocess.Popen(["/usr/bin/python3", "-S", "-c", "import time; time.sleep(300)", f"survives-{NAME}"], start_new_session=True)
planted("a process that holds the output")"##,
    }
}
