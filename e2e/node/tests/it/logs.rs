//! Logs through the API server.

use kube::api::LogParams;
use serde_json::json;

use crate::lab::{Lab, shell_container};

#[tokio::test]
async fn options_work_through_the_api_server() {
    let lab = Lab::start().await;
    let extra = json!({"restartPolicy": "Never",
        "containers": [shell_container("a", "for i in 1 2 3 4 5; do echo line $i; done; echo error >&2"), shell_container("b", "echo other")]});
    lab.shell("logs", "", extra).await;
    lab.ended("logs").await;
    let of = |container: &str| LogParams { container: Some(container.into()), ..Default::default() };
    let all = lab.logs("logs", of("a")).await;
    // Two streams are two pipes: each keeps its order, between them there is none.
    let (lines, errors): (Vec<&str>, Vec<&str>) = all.lines().partition(|line| line.starts_with("line"));
    assert_eq!(lines, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
    assert_eq!(errors, ["error"]);
    assert_eq!(lab.logs("logs", of("b")).await, "other\n");
    let tail = lab.logs("logs", LogParams { tail_lines: Some(2), ..of("a") }).await;
    assert_eq!(tail.lines().count(), 2);
    let stamped = lab.logs("logs", LogParams { timestamps: true, ..of("b") }).await;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    assert_eq!(text, "other\n");
    assert_eq!(lab.logs("logs", LogParams { limit_bytes: Some(3), ..of("b") }).await, "oth");
    let error = lab.pods().logs("logs", &LogParams { previous: true, ..of("a") }).await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
    lab.stop().await;
}
