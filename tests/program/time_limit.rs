//! `--max-duration` and `--deadline` of the built program.

use std::process::Command;

use crate::common::{Home, Served, assert_no_page_billed_twice, assert_rows, expected, fewest_requests, run};

#[test]
fn a_run_whose_time_is_over_ends_with_6_and_the_same_command_completes_it_without_paying_again() {
    let Served { simulator, server, ids, home } = Served::start("products=200,max_videos=30,latency=50ms,record=true");
    let flags = ["--max-in-flight", "8", "--max-duration", "1s"];
    let first = run(home.export(&server.base_url(), &flags));
    let summary = first.ended(6);
    assert!(first.stderr.contains("this run ends at 20"), "{first}");
    assert!(summary["cause"].as_str().unwrap().starts_with("max_duration is reached"), "{summary}");
    assert!(summary["next"].as_str().unwrap().starts_with("run the same command again"), "{summary}");
    assert_eq!((&summary["credits"]["in_doubt"], &summary["rows"]["waiting"]), (&0.into(), &0.into()));
    run(home.export(&server.base_url(), &["--deadline", "9999-12-31T23:59:59Z"])).ended(0);
    assert_eq!(simulator.account().pages, fewest_requests(&simulator, &ids));
    assert_no_page_billed_twice(&[&simulator]);
    assert_rows(&home.out(), &expected(&simulator, &ids, 10));
}

#[test]
fn a_deadline_that_has_passed_sends_no_request_and_a_time_of_day_is_shown_as_the_moment_it_stands_for() {
    let Served { simulator, server, home, .. } = Served::start("products=3,max_videos=9");
    let late = run(home.export(&server.base_url(), &["--deadline", "2020-01-01T06:00:00+01:00"]));
    let cause = late.ended(6)["cause"].as_str().unwrap().to_owned();
    assert_eq!(cause, "deadline is reached: it was 2020-01-01T05:00:00.000Z");
    assert!(late.ended(6)["next"].as_str().unwrap().contains("give a later --deadline"), "{late}");
    assert_eq!(simulator.account().requests, 0);
    // Half a day and more away from now, whatever the time is.
    let now = pagehaul::model::clock::wall().seconds() / 3_600;
    let hour = format!("{:02}:30", (now + 12) % 24);
    let done = run(home.export(&server.base_url(), &["--deadline", &hour]));
    done.ended(0);
    assert!(done.stderr.contains(&format!("T{hour}:00.000Z (deadline)")), "{done}");
    // Where nothing is left, it makes no difference.
    run(home.export(&server.base_url(), &["--deadline", "2020-01-01T06:00:00+01:00"])).ended(0);
}

#[test]
fn a_list_or_a_key_that_never_comes_ends_with_the_time_of_the_run() {
    let Served { simulator, server, .. } = Served::start("products=3,max_videos=9");
    for waits_for in ["--products", "--token-file"] {
        let home = Home::new(&["17".to_owned()]);
        let pipe = home.argument("pipe");
        assert!(Command::new("mkfifo").args(["-m", "600", &pipe]).status().unwrap().success());
        let list = if waits_for == "--products" { pipe.clone() } else { home.argument("list.txt") };
        let mut command = home.bare_export(&server.base_url(), &["--products", &list, "--max-duration", "200ms"]);
        if waits_for == "--token-file" {
            command.args(["--token-file", &pipe]);
        }
        let cause = run(command).ended(6)["cause"].as_str().unwrap().to_owned();
        assert!(cause.starts_with("max_duration is reached"), "{waits_for}: {cause}");
    }
    assert_eq!(simulator.account().requests, 0);
}
