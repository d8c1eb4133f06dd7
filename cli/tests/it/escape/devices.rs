//! Devices.

super::table::attempts! { "devices";
    read_memory_devices {
        tries: "opens /dev/mem, /dev/kmem, /dev/port and /proc/kcore", bare: Either,
        stopped_by: "the box's /dev has null, zero, full, random, urandom, tty and its own pts; kcore is masked", says: "ENOENT|EACCES|EPERM|ENXIO|nothing",
        run: r##"opens(["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"], look=lambda f: len(f.read(16)) or stopped("EMPTY EPERM: masked"))"##,
    }
    read_kernel_log {
        tries: "reads /dev/kmsg and /proc/kmsg", bare: WorksAsRoot,
        stopped_by: "neither is in the box", says: "ENOENT|EACCES|EPERM",
        run: r##"opens(["/dev/kmsg", "/proc/kmsg"])"##,
    }
    read_disks {
        tries: "reads the disks beneath the file system", bare: Either,
        stopped_by: "the box's /dev has no disks", says: "NONE|ENOENT|EACCES|EPERM",
        run: r##"
disks = [p for p in glob.glob("/dev/*") + glob.glob("/dev/*/*") if stat.S_ISBLK(os.stat(p).st_mode)] if os.path.isdir("/dev") else []
opens(disks, look=lambda f: f"{len(f.read(512))} bytes") if disks else stopped("NONE: no block device is there")"##,
    }
    make_a_device {
        tries: "makes a device node of the disk and opens it", bare: Either,
        stopped_by: "no capability to make nodes; every mount is nodev", says: "EPERM|EACCES|ENOSYS",
        run: r##"
number = os.stat("/").st_dev
path = f"/tmp/node-{os.getpid()}"
os.mknod(path, 0o600 | stat.S_IFBLK, number)
try:
    opens([path], look=lambda f: f"{len(f.read(512))} bytes")
finally:
    os.unlink(path)"##,
    }
    make_a_character_device {
        tries: "makes a node of /dev/mem and of /dev/kmsg and opens them", bare: Either,
        stopped_by: "no capability to make nodes; every mount is nodev", says: "EPERM|EACCES|ENOSYS",
        run: r##"
def make(minor):
    def attempt():
        path = f"/tmp/chr-{os.getpid()}-{minor}"
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, minor))
        try:
            os.close(os.open(path, os.O_RDONLY))
            return f"1:{minor} opened"
        finally:
            os.unlink(path)
    return attempt
any_of("making", [make(1), make(11)])"##,
    }
    open_kvm {
        tries: "opens /dev/kvm, /dev/vhost-net, /dev/vhost-vsock and /dev/vfio", bare: Either,
        stopped_by: "none of them is in the box", says: "ENOENT|EACCES",
        run: r##"opens(["/dev/kvm", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/vfio/vfio"], "r+b")"##,
    }
    open_fuse_tun_loop {
        tries: "opens /dev/fuse, /dev/net/tun, /dev/loop-control and /dev/btrfs-control", bare: Either,
        stopped_by: "none of them is in the box", says: "ENOENT|EACCES",
        run: r##"opens(["/dev/fuse", "/dev/net/tun", "/dev/loop-control", "/dev/btrfs-control", "/dev/mapper/control"], "r+b")"##,
    }
    push_input_into_a_terminal {
        tries: "types into a terminal with TIOCSTI", bare: Either,
        stopped_by: "seccomp refuses the ioctl, also on a terminal of its own", says: "EPERM|EIO|EACCES|ENOTTY|ENOENT|ENXIO",
        run: r##"
import fcntl, pty
def into(get):
    def attempt():
        fd = get()
        fcntl.ioctl(fd, 0x5412, b"x")
        return "typed"
    return attempt
any_of("typing", [into(lambda: os.open("/dev/tty", os.O_RDWR)), into(lambda: os.open("/dev/console", os.O_RDWR)), into(lambda: pty.openpty()[1])])"##,
    }
    open_other_terminals {
        tries: "opens the host's terminals and consoles", bare: Either,
        stopped_by: "the box has a devpts of its own and no console", says: "NONE|ENOENT|EACCES|EPERM|ENXIO|EIO",
        run: r##"
ttys = [p for p in glob.glob("/dev/pts/[0-9]*") + glob.glob("/dev/tty[0-9S]*") + ["/dev/console", "/dev/vcs", "/dev/vcsa1"] if os.path.exists(p)]
opens(ttys, "wb") if ttys else stopped("NONE: there is no terminal")"##,
    }
    open_input_gpu_and_sound {
        tries: "opens input, graphics, sound, USB and TPM devices", bare: Either,
        stopped_by: "none of them is in the box", says: "NONE",
        run: r##"
kinds = ("input", "dri", "snd", "bus", "usb", "tpm0", "tpmrm0", "watchdog", "rtc0", "uinput", "hwrng", "nvram", "cpu", "autofs", "userfaultfd", "dma_heap", "sgx_enclave", "mei0", "hidraw0", "video0")
there = [k for k in kinds if os.path.exists(f"/dev/{k}")]
escaped(" ".join(there)) if there else stopped("NONE: none is there")"##,
    }
}
