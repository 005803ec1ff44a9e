//! The schema and the code that carries its settings out agree.

use barman_cloud::Compression;
use howdah_api::Cluster;
use kube::api::PostParams;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_takes_the_levels_that_the_codecs_have() {
    let world = World::new().await;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for codec in Compression::ALL {
        for level in [-8, -7, -1, 0, 1, 9, 10, 22, 23] {
            for section in ["wal", "data"] {
                if section == "data" && !codec.allowed_for_base() {
                    continue;
                }
                let mut settings = json!({ "compressionLevel": level });
                if codec != Compression::None {
                    settings["compression"] = json!(codec.as_str());
                }
                let mut store = serde_json::to_value(world.store()).unwrap();
                store[section] = settings;
                let mut spec = world.spec(None, true);
                spec.backup.as_mut().unwrap().barman_object_store = serde_json::from_value(store).unwrap();
                let created = world.clusters().create(&dry, &Cluster::new("levels", spec)).await;
                let known = codec.check_level(Some(level)).is_ok();
                assert_eq!(created.is_ok(), known, "{section} {codec} {level}: {created:?}");
            }
        }
    }
}
