#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use zeroize::Zeroizing;

use super::*;

#[test]
fn pauses_grow_to_a_ceiling_and_the_first_attempt_has_none() {
    assert_eq!(pause(0), Duration::ZERO);
    assert_eq!(pause(1), Duration::ZERO);
    for _ in 0..100 {
        assert!((PAUSE_MIN / 2..PAUSE_MIN * 2).contains(&pause(2)));
        assert!((PAUSE_MAX / 2..PAUSE_MAX * 2).contains(&pause(usize::MAX)));
    }
}

#[test]
fn without_a_key_no_two_connections_share_an_inbox_prefix() {
    let identity = Identity {
        creds: None,
        key: None,
    };
    assert_ne!(identity.inbox_prefix(), identity.inbox_prefix());
    let identity = Identity {
        creds: None,
        key: Some("UKEY".into()),
    };
    assert_eq!(identity.inbox_prefix(), "_INBOX_UKEY");
}

#[tokio::test]
async fn no_server_at_all_is_said_at_once() {
    let options = LatticeOptions {
        urls: Vec::new(),
        ..LatticeOptions::default()
    };
    assert!(matches!(
        connect(&options).await,
        Err(ConnectError::NoServer)
    ));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_at_the_deadline_and_named_without_its_password() {
    // Port 9 is reserved for a service that nobody runs.
    let options = LatticeOptions {
        urls: ServerUrl::parse_list("nats://me:hunter2@127.0.0.1:9").unwrap(),
        connect_timeout: Duration::from_millis(300),
        ..LatticeOptions::default()
    };
    let began = Instant::now();
    let error = connect(&options).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("`nats://127.0.0.1:9`") && !text.contains("hunter2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_login_in_the_url_opens_a_server_that_asks_for_one() {
    let users = "authorization { users = [ { user: me, password: \"hunt:er\" } ] }";
    let nats = fixture::Nats::start_with(|launch| launch.extra_config(users));
    let url = |login: &str| {
        let url = nats.options().urls[0].reveal().to_owned();
        let url = url.replace("nats://", &format!("nats://{login}"));
        LatticeOptions {
            urls: ServerUrl::parse_list(&url).unwrap(),
            ..nats.options()
        }
    };
    connect(&url("me:hunt%3Aer@")).await.unwrap();
    for login in ["me:other@", ""] {
        assert!(matches!(
            connect(&url(login)).await,
            Err(ConnectError::Refused { .. })
        ));
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused_with_what_to_do() {
    let nats = fixture::Nats::start_with(trellis_nats_server::Launch::without_jetstream);
    let error = connect(&nats.options()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NoJetStream { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("start it with `-js`"), "{error}");
    connect_control(&nats.options()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once_and_the_right_one_is_not() {
    let nats = fixture::Nats::start_with(|launch| {
        launch.extra_config("authorization { users: [ { nkey: \"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4\" } ] }")
    });
    let mut options = nats.options();
    let error = connect_control(&options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    options.nkey_seed = Some(Zeroizing::new(
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY".to_owned(),
    ));
    let client = connect_control(&options).await.unwrap();
    assert!(
        client
            .new_inbox()
            .starts_with("_INBOX_UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4."),
        "{}",
        client.new_inbox()
    );
}

#[tokio::test]
async fn a_missing_credentials_file_is_named() {
    let options = LatticeOptions {
        creds_file: Some("/nowhere/me.creds".into()),
        ..LatticeOptions::default()
    };
    let error = connect(&options).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot use the credentials file `/nowhere/me.creds`"),
        "{error}"
    );
}

#[tokio::test]
async fn both_connections_work_count_reconnects_and_close() {
    let mut nats = fixture::Nats::start();
    let connection = nats.connect().await;
    assert_eq!(*connection.reconnects().borrow(), 1);
    nats.stop();
    nats.start_again();
    let mut reconnects = connection.reconnects();
    let again = reconnects.wait_for(|count| *count == 2);
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap()
        .unwrap();
    connection.data.flush().await.unwrap();
    connection.close().await;
}

/// A server that greets as one of this version would, and says that it lives.
async fn server_of_version(version: &str) -> LatticeOptions {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let greeting = format!(
        "INFO {{\"server_id\":\"S\",\"server_name\":\"s\",\"version\":\"{version}\",\"host\":\"0.0.0.0\",\"port\":4222,\"proto\":1,\"headers\":true,\"max_payload\":1048576}}\r\n"
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.into_split();
            writer.write_all(greeting.as_bytes()).await.unwrap();
            tokio::spawn(async move {
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.starts_with("PING") && writer.write_all(b"PONG\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    LatticeOptions {
        urls: ServerUrl::parse_list(&url).unwrap(),
        connect_timeout: Duration::from_secs(5),
        ..LatticeOptions::default()
    }
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_in_a_sentence_with_the_version_that_is_needed() {
    for version in ["2.9.25", "2.9.99-beta.1", "1.4.1"] {
        let options = server_of_version(version).await;
        let found = [
            connect(&options).await.map(drop),
            connect_control(&options).await.map(drop),
        ];
        for error in found.map(Result::unwrap_err) {
            assert!(matches!(error, ConnectError::TooOld { .. }), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!(
                    "the nats-server at `{}` has version {version}, at least 2.10 is needed; upgrade it",
                    options.urls[0]
                )
            );
        }
    }
    // What is new enough is asked for more than its version.
    let options = server_of_version("2.10.0").await;
    connect_control(&options).await.unwrap();
}
