//! Task messages, ours and OpenKAT's.

use std::sync::Arc;

use super::*;

fn offer() -> Offer {
    Offer {
        task_id: "01936000-0000-7000-8000-000000000001".into(),
        attempt: 1,
        run_id: "01936000-0000-7000-8000-00005f2c91ab".into(),
        schedule: "hostnames-created".into(),
        organization: "acme".into(),
        worker_type: "boefje".into(),
        queue: "muster.tasks.boefje".into(),
        plugin: Arc::new(Plugin {
            plugin_id: "dns-records".into(),
            name: "DNS records".into(),
            version: Some("1".into()),
            oci_image: Some("registry.example/generic:1".into()),
            oci_arguments: vec!["dig".into(), "{hostname}".into()],
            ..Plugin::default()
        }),
        arguments: vec!["dig".into(), "www.example.com".into()],
        inputs: vec![OfferedInput {
            object_type: "hostname".into(),
            primary_key: "Hostname|internet|www.example.com".into(),
            attributes: map(json!({"name": "www.example.com"})),
            level: Some(2),
        }],
        settings: Map::new(),
        parameters: Map::new(),
        event_id: Some("e-1".into()),
        event_type: Some("object.created".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        cause: Cause::Event,
        priority: 2,
        scheduled_for: moment("2026-11-21T09:30:00Z"),
        created_at: moment("2026-11-21T09:30:00.25Z"),
        offered_at: moment("2026-11-21T09:30:02Z"),
        expires_at: moment("2026-11-21T10:30:02Z"),
        queue_timeout: Span::seconds(3600),
        heartbeat_timeout: Span::seconds(60),
        run_timeout: Span::seconds(900),
        avoid_workers: Vec::new(),
        deduplication_key: None,
    }
}

#[test]
fn a_task_message_is_the_one_of_the_contract_field_by_field() {
    let message = String::from_utf8(task_message(&offer())).unwrap();
    assert_eq!(message, String::from_utf8_lossy(TASK).trim_end());
}

#[test]
fn a_task_without_input_or_trigger_says_so() {
    let mut offer = offer();
    offer.inputs.clear();
    offer.event_id = None;
    offer.event_type = None;
    offer.traceparent = None;
    offer.cause = Cause::OnTime;
    Arc::make_mut(&mut offer.plugin).secrets = vec!["API_KEY".into()];
    offer.avoid_workers = vec!["w-1".into()];
    offer.heartbeat_timeout = Span::from_micros(500_000);
    let message: Value = serde_json::from_slice(&task_message(&offer)).unwrap();
    assert_eq!(message["inputs"], json!([]));
    assert_eq!(message["trigger"], Value::Null);
    assert_eq!(message["traceparent"], Value::Null);
    assert_eq!(message["cause"], "on_time");
    assert_eq!(message["secrets"], json!(["API_KEY"]));
    assert_eq!(message["avoid_workers"], json!(["w-1"]));
    assert_eq!(message["timeouts"]["heartbeat_s"], 1);
}

#[test]
fn a_boefje_task_in_openkats_envelope_reads_as_its_models_want_it() {
    let message: Value = serde_json::from_slice(&openkat_task_message(&offer())).unwrap();
    let id = "01936000-0000-7000-8000-000000000001";
    let expected = json!({
        "id": id, "scheduler_id": "boefje", "schedule_id": message["schedule_id"], "organisation": "acme",
        "priority": 1_795_253_400, "status": "queued", "type": "boefje", "hash": message["hash"],
        "data": {
            "id": id,
            "boefje": {"id": "dns-records", "name": "DNS records", "version": "1", "oci_image": "registry.example/generic:1"},
            "input_ooi": "Hostname|internet|www.example.com", "organization": "acme",
            "deduplication_key": null, "dispatches": [],
        },
        "created_at": "2026-11-21T09:30:00.25Z", "modified_at": "2026-11-21T09:30:00.25Z",
    });
    assert_eq!(message, expected);
    let schedule_id = message["schedule_id"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(schedule_id).is_ok(), "{schedule_id}");
    assert_eq!(message["hash"].as_str().unwrap().len(), 32);
    let mut manual = offer();
    manual.cause = Cause::Manual;
    let message: Value = serde_json::from_slice(&openkat_task_message(&manual)).unwrap();
    assert_eq!(message["priority"], 1);
}

#[test]
fn the_hash_of_openkats_envelope_is_openkats_own() {
    let mut offer = offer();
    offer.organization = "org-0".into();
    offer.inputs[0].primary_key = "Hostname|internet|example.com".into();
    let hash = |offer: &Offer| {
        let message: Value = serde_json::from_slice(&openkat_task_message(offer)).unwrap();
        message["hash"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(&offer), "7520fc55c8babe696f74a1360da4b20b");
    offer.inputs.clear();
    assert_eq!(hash(&offer), "088d892fab374fe9a6b342871b3418fe");
}

#[test]
fn a_normalizer_task_carries_the_raw_data_of_its_event() {
    let event = openkat(Format::OpenkatRawFile, RAW_FILE).unwrap();
    let sent: Value = serde_json::from_slice(RAW_FILE).unwrap();
    let mut offer = offer();
    offer.worker_type = "normalizer".into();
    offer.inputs = vec![OfferedInput {
        object_type: "file".into(),
        primary_key: event.told.change.key.primary_key.clone(),
        attributes: attributes(&event).clone(),
        level: None,
    }];
    let message: Value = serde_json::from_slice(&openkat_task_message(&offer)).unwrap();
    assert_eq!(message["type"], "normalizer");
    assert_eq!(message["scheduler_id"], "normalizer");
    let expected = json!({
        "id": offer.task_id, "raw_data": sent["raw_data"],
        "normalizer": {"id": "dns-records", "name": "DNS records", "version": "1"},
    });
    assert_eq!(message["data"], expected);
    let ended = moment("2026-03-02T10:15:29Z");
    assert_eq!(message["priority"], ended.micros() / 1_000_000);

    // A file of another format has no raw data of OpenKAT's, so it is put together.
    offer.inputs[0].attributes.remove("raw_data");
    let message: Value = serde_json::from_slice(&openkat_task_message(&offer)).unwrap();
    let raw_data = &message["data"]["raw_data"];
    assert_eq!(raw_data["id"], sent["raw_data"]["id"]);
    assert_eq!(raw_data["mime_types"], sent["raw_data"]["mime_types"]);
    for name in [
        "id",
        "started_at",
        "ended_at",
        "input_ooi",
        "boefje",
        "organization",
    ] {
        assert_eq!(
            raw_data["boefje_meta"][name], sent["raw_data"]["boefje_meta"][name],
            "{name}"
        );
    }
    assert_eq!(message["priority"], ended.micros() / 1_000_000);
}

#[test]
fn a_report_task_names_its_recipe() {
    let mut offer = offer();
    offer.worker_type = "report".into();
    offer.inputs[0].primary_key = "ReportRecipe|5f0c".into();
    let message: Value = serde_json::from_slice(&openkat_task_message(&offer)).unwrap();
    assert_eq!(
        message["data"],
        json!({"organisation_id": "acme", "report_recipe_id": "5f0c"})
    );
    offer
        .parameters
        .insert("report_recipe_id".into(), json!("asked for"));
    let message: Value = serde_json::from_slice(&openkat_task_message(&offer)).unwrap();
    assert_eq!(message["data"]["report_recipe_id"], "asked for");
}
