use super::*;
use rstest::rstest;

fn data(path: &str, file_type: FileType) -> Verdict {
    classify(Scope::Data, Path::new(path), file_type)
}

#[rstest]
#[case("PG_VERSION", FileType::File, Verdict::Include)]
#[case("base/1/112", FileType::File, Verdict::Include)]
#[case("base/1/16400_init", FileType::File, Verdict::Include)]
#[case("base/1/pg_filenode.map", FileType::File, Verdict::Include)]
#[case("postgresql.auto.conf", FileType::File, Verdict::Include)]
#[case("postgresql.auto.conf.tmp", FileType::File, Verdict::Skip)]
#[case("postmaster.pid", FileType::File, Verdict::Skip)]
#[case("postmaster.opts", FileType::File, Verdict::Skip)]
#[case("standby.signal", FileType::File, Verdict::Skip)]
#[case("recovery.signal", FileType::File, Verdict::Skip)]
#[case("recovery.conf", FileType::File, Verdict::Skip)]
#[case("backup_label", FileType::File, Verdict::Skip)]
#[case("tablespace_map", FileType::File, Verdict::Skip)]
#[case("backup_manifest", FileType::File, Verdict::Skip)]
#[case("backup_manifest.tmp", FileType::File, Verdict::Skip)]
#[case("howdah-recovery.json", FileType::File, Verdict::Skip)]
#[case("lost+found", FileType::Directory, Verdict::Skip)]
#[case("sub/howdah-x", FileType::File, Verdict::Include)]
#[case("sub/backup_label", FileType::File, Verdict::Include)]
#[case("global/pg_control", FileType::File, Verdict::Last)]
#[case("global/pg_internal.init", FileType::File, Verdict::Skip)]
#[case("base/5/pg_internal.init.1234", FileType::File, Verdict::Skip)]
#[case("base/pgsql_tmp", FileType::Directory, Verdict::Skip)]
#[case("pgsql_tmp123.4", FileType::File, Verdict::Skip)]
#[case("socket", FileType::Other, Verdict::Skip)]
#[case("pipe", FileType::Fifo, Verdict::Include)]
fn files_of_the_data_directory(#[case] path: &str, #[case] kind: FileType, #[case] verdict: Verdict) {
    assert_eq!(data(path, kind), verdict);
}

#[rstest]
#[case("pg_wal", FileType::Directory, Verdict::IncludeEmpty)]
#[case("pg_wal", FileType::LinkToDirectory, Verdict::ReplaceByEmpty)]
#[case("log", FileType::Directory, Verdict::IncludeEmpty)]
#[case("log", FileType::LinkToDirectory, Verdict::ReplaceByEmpty)]
#[case("pg_log", FileType::Directory, Verdict::IncludeEmpty)]
#[case("extension/log", FileType::Directory, Verdict::Include)]
#[case("pg_replslot", FileType::Directory, Verdict::IncludeEmpty)]
#[case("pg_stat_tmp", FileType::LinkToDirectory, Verdict::ReplaceByEmpty)]
#[case("pg_stat", FileType::Directory, Verdict::Include)]
#[case("pg_tblspc", FileType::Directory, Verdict::Include)]
#[case("pg_tblspc/16384", FileType::LinkToDirectory, Verdict::Skip)]
#[case("pg_tblspc/16384", FileType::Link, Verdict::Skip)]
#[case("pg_tblspc/16385", FileType::Directory, Verdict::Include)]
#[case("base", FileType::LinkToDirectory, Verdict::Follow)]
#[case("server.crt", FileType::Link, Verdict::Include)]
fn directories_and_links(#[case] path: &str, #[case] kind: FileType, #[case] verdict: Verdict) {
    assert_eq!(data(path, kind), verdict);
}

#[rstest]
#[case("base/5/t3_16400", Verdict::Skip)]
#[case("base/5/t12_16400_fsm", Verdict::Skip)]
#[case("base/5/t3_16400.1", Verdict::Skip)]
#[case("base/5/t3_16400_vm.2", Verdict::Skip)]
#[case("base/5/t3_", Verdict::Include)]
#[case("base/5/t_16400", Verdict::Include)]
#[case("base/5/t3_16400_x", Verdict::Include)]
#[case("base/5/16400", Verdict::Include)]
#[case("t3_16400", Verdict::Include)]
#[case("mine/5/t3_16400", Verdict::Include)]
#[case("pg_tblspc/16385/PG_15_202209061/5/t3_16400", Verdict::Skip)]
fn temporary_relations(#[case] path: &str, #[case] verdict: Verdict) {
    assert_eq!(data(path, FileType::File), verdict);
}

#[rstest]
#[case("PG_15_202209061", FileType::Directory, Verdict::Include)]
#[case("PG_15_202209061/5/16400", FileType::File, Verdict::Include)]
#[case("PG_15_202209061/5/t3_16400", FileType::File, Verdict::Skip)]
#[case("PG_15_202209061/pgsql_tmp", FileType::Directory, Verdict::Skip)]
#[case("PG_14_202107181", FileType::Directory, Verdict::Skip)]
#[case("lost+found", FileType::Directory, Verdict::Skip)]
#[case("notes.txt", FileType::File, Verdict::Skip)]
#[case("global/pg_control", FileType::File, Verdict::Include)]
fn tablespaces(#[case] path: &str, #[case] kind: FileType, #[case] verdict: Verdict) {
    assert_eq!(classify(Scope::Tablespace { major: 15 }, Path::new(path), kind), verdict);
}

#[test]
fn in_place_tablespaces_are_relative() {
    assert!(is_in_place("pg_tblspc/16385") && !is_in_place("/srv/ts"));
}
