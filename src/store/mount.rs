//! Which file system a path lies on. SQLite's locks and durability do not hold on a network.

use std::path::{Path, PathBuf};

/// File systems whose files another machine may hold open, as Linux names them.
const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gfs2",
    "ocfs2",
    "fuse.sshfs",
    "fuse.glusterfs",
];

/// The network file system that `file` lies on, if it does. Systems without `/proc` are not asked.
pub(super) fn network(file: &Path) -> Option<String> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = parent.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = kind_of(&mounts, &folder)?;
    NETWORK.contains(&kind).then(|| kind.to_owned())
}

/// The kind of the mount that is nearest above a path; of two on the same place the later one hides the other.
/// The format is that of proc_pid_mountinfo(5): the mount point is field 5, the kind comes after a lone dash.
fn kind_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let above = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = PathBuf::from(unescaped(mount.split(' ').nth(4)?));
        let depth = path.starts_with(&point).then(|| point.components().count())?;
        Some((depth, kind.split(' ').next()?))
    });
    above.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Blanks and such are written as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /srv rw,relatime shared:2 - nfs4 files:/srv rw,vers=4.2
31 30 8:1 / /srv/local\\040disk rw,relatime - xfs /dev/sda1 rw
40 22 0:40 / /home rw - ext4 /dev/vdb rw
41 40 0:41 / /home rw - fuse.sshfs me@away:/home rw";

    #[test]
    fn the_nearest_mount_decides() {
        for (path, kind) in [
            ("/var/lib/recurd", "ext4"),
            ("/srv", "nfs4"),
            ("/srv/recurd/books", "nfs4"),
            ("/srvother", "ext4"),
            ("/srv/local disk/recurd", "xfs"),
            ("/home/ana", "fuse.sshfs"),
        ] {
            assert_eq!(kind_of(MOUNTS, Path::new(path)), Some(kind), "{path}");
        }
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machines_temporary_directory_is_local_and_a_new_file_may_lie_there() {
        assert_eq!(network(&std::env::temp_dir().join("recurd-new.db")), None);
        assert_eq!(network(Path::new("recurd.db")), None);
    }
}
