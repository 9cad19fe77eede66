//! Which credentials are found, and where.

use backup_core::contracts::{ObjectKey, Sink as _, SinkErrorKind};

use super::*;
use crate::access::Secret;
use crate::bucket::Provider;
use crate::sinks::object::fake::{always, fake};

fn key_of(place: &str, access: &Access) -> std::result::Result<String, String> {
    let bucket = Bucket::parse(Provider::S3, place).unwrap();
    let store = Reach::of(&bucket, access).map_err(|error| error.to_string())?.store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let credential = runtime.block_on(store.credentials().get_credential()).map_err(|error| error.to_string())?;
    Ok(format!("{} {} {}", credential.key_id, credential.secret_key, credential.token.as_deref().unwrap_or("-")))
}

#[test]
fn credentials_are_found_in_the_order_of_amazons_own_programs() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
    write("credentials", "[default]\naws_access_key_id = D\naws_secret_access_key=d\n\n[other]\naws_access_key_id=O\n");
    write("config", "[profile other]\naws_secret_access_key = o # kept\nregion = x\n[profile sso]\nsso_session = x\n");
    let mut access =
        Access { credentials: None, environment: Environment::new([("HOME", home.path().to_str().unwrap())]) };
    assert_eq!(key_of("//b", &access).unwrap(), "D d -");
    assert_eq!(key_of("//b?profile=other", &access).unwrap(), "O o -");
    let error = key_of("//b?profile=sso", &access).unwrap_err();
    assert!(error.contains("sso") && error.contains("export-credentials"), "{error}");
    let error = key_of("//b?profile=none", &access).unwrap_err();
    assert!(error.contains("no profile none"), "{error}");

    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_ACCESS_KEY_ID", "E"),
        ("AWS_SECRET_ACCESS_KEY", "e"),
        ("AWS_SESSION_TOKEN", "t"),
    ];
    access.environment = Environment::new(variables);
    assert_eq!(key_of("//b", &access).unwrap(), "E e t");
    assert_eq!(key_of("//b?profile=other", &access).unwrap(), "O o -", "who names a profile means it");
    access.environment = Environment::new(variables[..2].to_vec());
    assert!(key_of("//b", &access).unwrap_err().contains("AWS_SECRET_ACCESS_KEY is not"));

    let secret = Secret::new("g");
    access.credentials = Some(Credentials::AccessKey { id: String::from("G"), secret, session_token: None });
    assert_eq!(key_of("//b", &access).unwrap(), "G g -");
}

#[test]
fn a_bucket_is_where_its_settings_say() {
    let given = Credentials::AccessKey { id: String::new(), secret: Secret::new(""), session_token: None };
    let variables = [("AWS_REGION", "eu-west-3")];
    let access = Access { credentials: Some(given), environment: Environment::new(variables) };
    for (place, url) in [
        ("//b", "https://b.s3.eu-west-3.amazonaws.com"),
        ("//b?region=eu-west-1", "https://b.s3.eu-west-1.amazonaws.com"),
        ("//b.c", "https://s3.eu-west-3.amazonaws.com/b.c"),
        ("//b?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000/b"),
        ("//b?endpoint=https://s3.example&path_style=false", "https://b.s3.example"),
    ] {
        let bucket = Bucket::parse(Provider::S3, place).unwrap();
        assert_eq!(Reach::of(&bucket, &access).unwrap().bucket_url, url);
    }
}

#[test]
fn a_bucket_may_stand_in_the_hosts_name() {
    assert_eq!(with_bucket_in_host("https://s3.example:9000", "b"), "https://b.s3.example:9000");
}

fn with(pairs: &[(&str, &str)]) -> Access {
    Access { credentials: None, environment: Environment::new(pairs.iter().copied()) }
}

#[test]
fn an_agent_beside_a_container_hands_credentials_out_and_its_token_may_end_with_a_line() {
    let (address, heard) =
        always(r#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#);
    let url = format!("http://{address}/creds");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "shown\n").unwrap();
    let uri = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    for token in [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "shown"),
    ] {
        assert_eq!(key_of("//b", &with(&[uri, token])).unwrap(), "A s t");
        assert!(heard.recv().unwrap().contains("authorization: shown\r\n"));
    }
    let elsewhere = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.org/creds");
    assert!(key_of("//b", &with(&[elsewhere])).unwrap_err().contains("another machine"));
}

#[test]
fn a_program_that_a_profile_names_hands_credentials_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let of = |command: &str| {
        std::fs::write(&config, format!("[default]\ncredential_process = {command}\n")).unwrap();
        key_of("//b", &with(&[("AWS_CONFIG_FILE", config.to_str().unwrap())]))
    };
    let prints = r#"printf '{"Version":1,"AccessKeyId":"P","SecretAccessKey":"s","SessionToken":"t"}'"#;
    assert_eq!(of(prints).unwrap(), "P s t");
    let error = of("echo 'not logged in' >&2; exit 3").unwrap_err();
    assert!(error.contains("no credentials come from echo") && error.contains("not logged in"), "{error}");
    assert!(of("echo nonsense").unwrap_err().contains("not understood"));
}

#[test]
fn a_web_identity_is_exchanged_for_credentials() {
    let (address, heard) = always(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>W</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identity");
    std::fs::write(&file, "who-i-am").unwrap();
    let url = format!("http://{address}/");
    let access = with(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_ENDPOINT_URL_STS", &url),
    ]);
    assert_eq!(key_of("//b", &access).unwrap(), "W s t");
    assert!(heard.recv().unwrap().contains("assumerolewithwebidentity"));
}

const ROLE: &str = "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials>\
     <AccessKeyId>R</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
     <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[test]
fn a_profiles_role_is_taken_on_with_its_sources_credentials() {
    let (address, heard) = always(ROLE);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::write(
        &config,
        "[profile vault]\naws_access_key_id = BASE\naws_secret_access_key = b\n\
         [profile backup]\nrole_arn = arn:aws:iam::1:role/backup\nsource_profile = vault\nexternal_id = a b\nregion = eu-west-3\n\
         [profile itself]\nrole_arn = arn:x\nsource_profile = itself\naws_access_key_id = OWN\naws_secret_access_key = o\n\
         [profile chain]\nrole_arn = arn:y\nsource_profile = backup\n\
         [profile here]\nrole_arn = arn:z\ncredential_source = Environment\nrole_session_name = night\n\
         [profile nowhere]\nrole_arn = arn:z\ncredential_source = EcsContainer\n\
         [profile a]\nrole_arn = arn:a\nsource_profile = b\n[profile b]\nrole_arn = arn:b\nsource_profile = a\n\
         [profile empty]\nregion = x\n[profile of-empty]\nrole_arn = arn:e\nsource_profile = empty\n\
         [profile alone]\nrole_arn = arn:e\n\
         [profile asks]\nrole_arn = arn:e\nsource_profile = vault\nmfa_serial = arn:m\n",
    )
    .unwrap();
    let url = format!("http://{address}/");
    let of = |profile: &str| {
        let access = with(&[
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &url),
            ("AWS_ACCESS_KEY_ID", "ENV"),
            ("AWS_SECRET_ACCESS_KEY", "e"),
        ]);
        key_of(&format!("//b?profile={profile}"), &access)
    };
    for (profile, asked) in [
        ("backup", &["credential=base/", "/eu-west-3/sts/", "externalid=a%20b", "rolesessionname=backup"][..]),
        ("itself", &["credential=own/", "rolearn=arn%3ax"]),
        ("here", &["credential=env/", "rolearn=arn%3az", "rolesessionname=night"]),
        ("chain", &["credential=base/", "role%2fbackup"]),
    ] {
        assert_eq!(of(profile).unwrap(), "R s t", "{profile}");
        let request = heard.recv().unwrap();
        for word in asked.iter().chain(&["action=assumerole&", "signature="]) {
            assert!(request.contains(word), "{profile}: {word} is not in {request}");
        }
    }
    let second = heard.recv().unwrap();
    assert!(second.contains("credential=r/") && second.contains("x-amz-security-token: t"), "of a chain: {second}");
    for (profile, words) in [
        ("nowhere", &["EcsContainer", "nothing here"][..]),
        ("a", &["too many", "refer to each other"]),
        ("of-empty", &["of-empty", "the profile empty, has no credentials"]),
        ("alone", &["alone", "no source_profile"]),
        ("asks", &["mfa_serial", "export-credentials"]),
    ] {
        let error = of(profile).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{profile}: {error}");
    }
    assert!(heard.try_recv().is_err(), "what cannot be taken on is not asked for");
}

#[test]
fn a_role_that_is_about_to_end_is_taken_on_again_within_a_run_and_one_that_lasts_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = "[default]\nrole_arn = arn:r\nsource_profile = base\n[base]\naws_access_key_id = B\naws_secret_access_key = b\n";
    std::fs::write(&config, text).unwrap();
    let in_four_minutes = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(4);
    // The second one lasts: so the third request does without another.
    let given = std::sync::atomic::AtomicU32::new(0);
    let (address, heard) = fake(move |asked| {
        if !asked.contains("action=assumerole&") {
            return ("200 OK", String::from("content"));
        }
        let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let mut answer = ROLE.replace("<AccessKeyId>R", &format!("<AccessKeyId>R{number}"));
        if number == 1 {
            answer = answer.replace("2099-01-01T00:00:00Z", &in_four_minutes.to_string());
        }
        ("200 OK", answer)
    });
    let url = format!("http://{address}/");
    let access = with(&[("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &url)]);
    let bucket = Bucket::parse(Provider::S3, &format!("//b?endpoint=http://{address}")).unwrap();
    let sink = open(&bucket, &access).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..3 {
        // A fake of few words: that it is asked, and by whom, is what counts.
        drop(runtime.block_on(sink.get(&ObjectKey::new("config"), None)));
    }
    let asked: Vec<_> = heard.try_iter().collect();
    let by = |who: &str| asked.iter().filter(|request| request.starts_with("get ") && request.contains(who)).count();
    assert_eq!((by("credential=r1/"), by("credential=r2/"), by("credential=")), (1, 2, 3), "{asked:#?}");
    assert_eq!(asked.iter().filter(|request| request.starts_with("post ")).count(), 2, "{asked:#?}");
}

#[test]
fn a_profile_may_take_its_role_on_with_the_token_in_a_file_which_is_read_each_time() {
    let (address, heard) = always(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>W</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
    );
    let folder = tempfile::tempdir().unwrap();
    let (config, file) = (folder.path().join("config"), folder.path().join("identity"));
    let named = |session: &str| {
        let text = format!("[default]\nrole_arn = arn:r\nweb_identity_token_file = {}\n{session}", file.display());
        std::fs::write(&config, text).unwrap();
        let url = format!("http://{address}/");
        key_of("//b", &with(&[("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &url)]))
    };
    for (token, session, told) in [
        ("who-i-am", "", "rolesessionname=backup"),
        ("who-i-am-now", "role_session_name = night\n", "rolesessionname=night"),
    ] {
        std::fs::write(&file, token).unwrap();
        assert_eq!(named(session).unwrap(), "W s t");
        let asked = heard.recv().unwrap();
        for word in ["assumerolewithwebidentity", "arn%3ar", told, &format!("webidentitytoken={token}")] {
            assert!(asked.contains(word) || asked.contains(&word.replace("%3a", ":")), "{word} is not in {asked}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert!(named("").is_err(), "without its token there is no role");
}

#[test]
fn a_role_that_is_refused_says_so_and_one_that_is_not_answered_may_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = "[default]\nrole_arn = arn:r\nsource_profile = base\n[base]\naws_access_key_id = B\naws_secret_access_key = b\n";
    std::fs::write(&config, text).unwrap();
    let no =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>may not assume it</Message></Error></ErrorResponse>";
    for (status, kind, words) in [
        (
            "403 Forbidden",
            SinkErrorKind::PermissionDenied,
            &["no credentials come from arn:r", "may not assume it"][..],
        ),
        ("503 Busy", SinkErrorKind::Unavailable, &["cannot be reached", "503"]),
    ] {
        let (address, _heard) = fake(move |_| (status, no.to_owned()));
        let url = format!("http://{address}/");
        let access = with(&[("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &url)]);
        let sink = open(&Bucket::parse(Provider::S3, "//b?endpoint=http://127.0.0.1:1").unwrap(), &access).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(sink.get(&ObjectKey::new("config"), None)).unwrap_err();
        let text = format!("{error}: {}", error.source.as_ref().unwrap());
        assert_eq!(error.kind, kind, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_machines_role_is_asked_for_by_a_token_of_a_session() {
    let (address, heard) = fake(|asked| {
        let answer = match asked.split(' ').nth(1).unwrap() {
            "/latest/api/token" if asked.starts_with("put ") => "session",
            _ if !asked.contains("x-aws-ec2-metadata-token: session") => return ("401 Unauthorized", String::new()),
            "/latest/meta-data/iam/security-credentials/" => "keeper",
            "/latest/meta-data/iam/security-credentials/keeper" => {
                r#"{"AccessKeyId":"M","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#
            }
            _ => return ("404 Not Found", String::new()),
        };
        ("200 OK", answer.to_owned())
    });
    let url = format!("http://{address}");
    assert_eq!(key_of("//b", &with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)])).unwrap(), "M s t");
    assert_eq!(heard.try_iter().count(), 3);
}
