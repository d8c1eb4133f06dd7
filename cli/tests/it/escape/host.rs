//! The host around a box: secrets to read, files to spoil, processes to signal, and listeners to reach. All of it is
//! planted, so that an attempt that works proves it and harms nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A listener waits this long for what a guest says.
const HEARD_WITHIN: Duration = Duration::from_millis(400);
/// Files in a home that hold secrets everywhere.
const SECRETS: [&str; 14] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".config/gh/hosts.yml",
    ".docker/config.json",
    // Beside programs, where package managers keep what they are configured with.
    ".nvm/versions/node/v20.0.0/etc/npmrc",
    ".pyenv/versions/3.12.0/pip.conf",
    ".local/share/uv/credentials/registry.toml",
    ".dotnet/corefx/cryptography/x509stores/my/key.pfx",
    "miniconda3/.condarc",
    ".sdkman/etc/config",
];

/// What is planted on the host.
pub struct Host {
    /// What an attempt that reads finds.
    pub canary: String,
    /// A file of its own for each attempt.
    pub files: BTreeMap<&'static str, PathBuf>,
    /// A process of its own for each attempt.
    pub processes: BTreeMap<&'static str, Child>,
    /// What was said to the listeners that nobody in a box may reach.
    heard: Arc<Mutex<Vec<String>>>,
    /// What was said to the one site that boxes may reach.
    pub at_site: Arc<Mutex<Vec<String>>>,
    /// A block of System V shared memory.
    shared: Option<String>,
    pub tcp: u16,
    pub tcp6: Option<u16>,
    pub lan: Option<SocketAddr>,
    pub udp: u16,
    pub site: u16,
    pub unix: PathBuf,
    pub abstract_name: String,
}

impl Host {
    /// Plants everything below `home`, the home of the person whose server it is.
    /// `user` is that person's number, when it is not who runs this: the processes are that user's, too.
    pub fn plant(home: &Path, attempts: &[&'static str], user: Option<u32>) -> Host {
        let mut canary = [0_u8; 10];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut canary).unwrap();
        let canary = format!("canary-{}", canary.map(|b| format!("{b:02x}")).concat());
        for secret in SECRETS {
            let file = home.join(secret);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, format!("secret = {canary}\n")).unwrap();
            // Open to all: a box must not rely on the mode.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let spoils = home.join("files");
        fs::create_dir_all(&spoils).unwrap();
        let files: BTreeMap<_, _> = attempts.iter().map(|name| (*name, spoils.join(name))).collect();
        files.values().for_each(|file| fs::write(file, format!("{canary}\n")).unwrap());
        let processes = files.iter().map(|(name, file)| (*name, bystander(file, &canary, user))).collect();

        let (heard, at_site) = (Arc::default(), Arc::default());
        let tcp = listen((Ipv4Addr::LOCALHOST, 0).into(), &canary, &heard).unwrap().port();
        let tcp6 = listen((Ipv6Addr::LOCALHOST, 0).into(), &canary, &heard).map(|a| a.port());
        let lan = own_address().and_then(|ip| listen((ip, 0).into(), &canary, &heard));
        let site = listen((Ipv4Addr::LOCALHOST, 0).into(), SITE, &at_site).unwrap().port();
        let unix = home.join("ssh-agent.sock");
        let name = format!("bgagent-{canary}").replace("canary", "abstract");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        answer_unix(UnixListener::bind(&unix).unwrap(), &canary, &heard);
        answer_unix(UnixListener::bind_addr(&address).unwrap(), &canary, &heard);
        let udp = answer_udp(&canary, &heard);
        let shared = Command::new("ipcmk").args(["-M", "4096", "-p", "0666"]).output().ok();
        let shared = shared.and_then(|made| {
            Some(String::from_utf8(made.stdout).ok()?.trim().rsplit_once(' ')?.1.to_owned())
        });
        Host {
            canary,
            files,
            processes,
            heard,
            at_site,
            shared,
            tcp,
            tcp6,
            lan,
            udp,
            site,
            unix,
            abstract_name: name,
        }
    }

    /// Its shared memory's id.
    pub fn shared(&self) -> Option<i64> {
        self.shared.as_ref()?.parse().ok()
    }

    /// What the listeners heard, with the name of an attempt where one is in it.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(id) = &self.shared {
            let _ = Command::new("ipcrm").args(["-m", id]).status();
        }
    }
}

/// What the site that boxes may reach answers, whatever it is asked.
pub const SITE: &str = "welcome";

/// A process that minds its own business, with the secret in its environment and its input.
fn bystander(file: &Path, canary: &str, user: Option<u32>) -> Child {
    let mut command = Command::new("sleep");
    if let Some(id) = user {
        command.uid(id).gid(id);
    }
    command
        .arg("3600")
        .env_clear()
        .env("BYSTANDERS_SECRET", canary)
        .stdin(fs::File::open(file).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// An address of this machine that is not the loopback's; connecting a datagram socket sends nothing.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

/// Answers as HTTP where it is asked so, and plainly where not.
fn answer(heard: &str, with: &str) -> String {
    match heard.contains("HTTP/1.") {
        true => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{with}", with.len())
        }
        false => format!("{with}\n"),
    }
}

fn serve(
    mut stream: impl std::io::Read + std::io::Write + Send + 'static,
    with: &str,
    heard: &Arc<Mutex<Vec<String>>>,
) {
    let (with, heard) = (with.to_owned(), heard.clone());
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut piece = [0_u8; 4096];
        // Until it says no more for a while.
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            said.extend_from_slice(&piece[..read]);
            if said.len() > 1 << 20 {
                break;
            }
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        let _ = stream.write_all(answer(&said, &with).as_bytes());
        heard.lock().unwrap().push(said);
    });
}

fn listen(address: SocketAddr, with: &str, heard: &Arc<Mutex<Vec<String>>>) -> Option<SocketAddr> {
    let listener = TcpListener::bind(address).ok()?;
    let address = listener.local_addr().ok()?;
    let (with, heard) = (with.to_owned(), heard.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(HEARD_WITHIN));
            serve(stream, &with, &heard);
        }
    });
    Some(address)
}

fn answer_unix(listener: UnixListener, with: &str, heard: &Arc<Mutex<Vec<String>>>) {
    let (with, heard) = (with.to_owned(), heard.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(HEARD_WITHIN));
            serve(stream, &with, &heard);
        }
    });
}

fn answer_udp(with: &str, heard: &Arc<Mutex<Vec<String>>>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let (with, heard) = (with.to_owned(), heard.clone());
    std::thread::spawn(move || {
        let mut piece = [0_u8; 2048];
        while let Ok((read, from)) = socket.recv_from(&mut piece) {
            heard.lock().unwrap().push(String::from_utf8_lossy(&piece[..read]).into_owned());
            let _ = socket.send_to(with.as_bytes(), from);
        }
    });
    port
}
