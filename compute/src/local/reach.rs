//! Whether a box of the tiers `sandbox` and `container` can reach the gateway: over a UNIX socket only, since it has no network; and, when the
//! server is root, as another user.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const OTHERS_MAY_PASS: u32 = 0o001;
const OTHERS_MAY_WRITE: u32 = 0o002;

/// `Err` says why not, and what to do. A socket that is not there yet is no reason: its server makes it.
pub(crate) fn from_a_box(gateway: &str) -> Result<(), String> {
    let Some(socket) = gateway.strip_prefix("unix:") else {
        return Err(format!(
            "a box has no network and reaches its gateway over a UNIX socket only, not at {gateway}: leave \
             server.gateway_listen unset, or set it to unix:/path"
        ));
    };
    match nix::unistd::geteuid().is_root() {
        true => as_another_user(Path::new(socket)),
        false => Ok(()),
    }
}

/// The folder is shown in the box, so what is above it does not matter.
fn as_another_user(socket: &Path) -> Result<(), String> {
    let mode = |path: &Path| path.metadata().ok().map(|meta| meta.permissions().mode());
    let lacks = |path: &Path, bit: u32| mode(path).is_some_and(|mode| mode & bit == 0);
    let folder = socket.parent().unwrap_or(Path::new("/"));
    if lacks(folder, OTHERS_MAY_PASS) {
        return Err(format!(
            "the box's user cannot enter {}, the folder of the gateway's socket: give the socket a folder of its own \
             with mode 0711, below one that is closed to others",
            folder.display()
        ));
    }
    if lacks(socket, OTHERS_MAY_WRITE) {
        return Err(format!(
            "the gateway's socket {} is open to root only, because no folder above it is closed to others: give the \
             socket a folder of its own below one with mode 0700, and start the server again",
            socket.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn tcp_is_refused_and_a_socket_to_come_is_not() {
        assert!(from_a_box("http://127.0.0.1:7").unwrap_err().contains("server.gateway_listen"));
        assert_eq!(from_a_box("unix:/none/gateway/gateway.sock"), Ok(()));
    }

    #[test]
    fn another_user_must_get_through_the_folder_and_at_the_socket() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("gateway");
        let socket = folder.join("gateway.sock");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&socket, "").unwrap();
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(&folder, 0o711);
        set(&socket, 0o666);
        assert_eq!(as_another_user(&socket), Ok(()));
        set(&socket, 0o600);
        assert!(as_another_user(&socket).unwrap_err().contains("mode 0700"));
        set(&folder, 0o700);
        assert!(as_another_user(&socket).unwrap_err().contains("0711"));
    }
}
