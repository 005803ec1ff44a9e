//! `install` and the other commands that need no pod.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_instance-manager");

#[test]
fn it_installs_itself_in_an_otherwise_empty_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(PROGRAM, root.path().join("instance-manager")).unwrap();
    std::fs::create_dir(root.path().join("controller")).unwrap();
    std::fs::create_dir(root.path().join("proc")).unwrap();
    let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" /instance-manager install /controller --uid 26 --gid 26";
    let output = Command::new("/usr/bin/unshare")
        .args(["--mount", "--pid", "--fork", "/bin/sh", "-c", script])
        .arg(root.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let installed = root.path().join("controller/instance-manager");
    assert_eq!(std::fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read(&installed).unwrap(), std::fs::read(PROGRAM).unwrap());
    let passwd = std::fs::read_to_string(root.path().join("controller/passwd")).unwrap();
    assert!(passwd.contains("postgres:x:26:26:"), "{passwd}");
}

#[test]
fn it_needs_no_library() {
    let output = Command::new("/usr/bin/ldd").arg(PROGRAM).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("not a dynamic executable"), "{text}");
}

#[test]
fn wal_commands_tell_what_is_wrong_by_exit_code_and_words() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).env("CONTROLLER_DIR", dir.path()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = run(&["wal-archive", "pg_wal/000000010000000000000001"]);
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("does not listen on"), "{words}");
    let (code, words) = run(&["wal-archive"]);
    assert!(code == 3 && words.contains("usage:"), "{code} {words}");
    // PostgreSQL must not take a manager that is away for the end of the archive.
    let (code, _) = run(&["wal-restore", "000000010000000000000001", "pg_wal/RECOVERYXLOG"]);
    assert_eq!(code, 126);
    let (code, words) = run(&["run"]);
    assert!(code == 78 && words.contains("CLUSTER_NAME is not set"), "{code} {words}");
}
