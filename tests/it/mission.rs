//! The whole procedure through `make`, as an operator runs it: a site of twenty volumes is backed up, passes the gate, is lost,
//! and comes back by each strategy with its data proven, without a question asked; and what cannot come back is named.

use crate::{
    apps::{Claim, claims},
    lab::Said,
    site::{Remains, Site, WITHOUT, can_run},
};

/// The verification as it must be when all data of these claims are there.
#[track_caller]
fn proven<'a>(mut said: Said, claims: impl Iterator<Item = &'a Claim>) -> Said {
    for claim in claims {
        said =
            said.says(&claim.proof()).never_says(&format!("✗ {}", claim.name)).never_says(&format!("? {}", claim.name));
    }
    said
}

/// What a verification of all claims says when that many checks have failed.
fn passed(failed: usize) -> String {
    let all: usize = claims().iter().map(Claim::checks).sum();
    format!("{} of {all} checks passed", all - failed)
}

/// The site restored with that strategy, every volume proven, and left alone by a second restore.
fn comes_back(strategy: &str, way: &str) -> Site {
    let site = Remains::of_the_site().rebuilt(&format!("strategy = \"{strategy}\""));
    site.make("restore-cluster").success().says(way).says("20 of 20 volumes are back");
    let restored = site.objects();
    site.make("restore-cluster").success().says("nothing to do").says("nothing was changed");
    assert_eq!(restored, site.objects(), "a second restore changes nothing");

    site.deploy();
    proven(site.make("verify-cluster").success().says(&passed(0)), claims().iter());
    let running = site.objects();
    site.make("restore-cluster").success().says("nothing to do").says("nothing was changed");
    assert_eq!(running, site.objects(), "nor does it once the applications run");
    site
}

#[test]
#[ignore = "takes minutes: make test-mission"]
fn the_gate_opens_when_all_twenty_are_backed_up_and_refuses_when_one_is_not() {
    if !can_run() {
        return;
    }
    let Remains { gate, gate_without_one, unproven, .. } = Remains::of_the_site();
    for claim in claims() {
        assert!(gate.stdout().contains(&claim.name), "{} is not in {gate}", claim.name);
    }
    assert!(gate.ended_with(0) && gate.stdout().contains("the gate is open"), "{gate}");
    let said = gate_without_one.stderr();
    // `make` itself ends with 2, whatever the code was.
    assert!(said.contains("Error 4") && said.contains(&format!("{WITHOUT} would be lost: never")), "{said}");
    assert!(said.contains(&format!("backup-now.rhai --set claims={WITHOUT}")), "{said}");
    // One application that cannot be asked keeps nobody from the rest; and it is not passed over.
    let said = unproven.stderr();
    assert!(said.contains("Error 6") && said.contains("NOT CHECKED: apps/unknown could not look"), "{unproven}");
    assert!(unproven.stdout().contains("system backup: "), "{unproven}");
}

#[test]
#[ignore = "takes minutes: make test-mission"]
fn twenty_volumes_come_back_by_the_way_that_is_chosen_for_them() {
    if can_run() {
        comes_back("auto", "it recorded exactly the expected backups");
    }
}

#[test]
#[ignore = "takes minutes: make test-mission"]
fn twenty_volumes_come_back_by_longhorns_system_restore() {
    if can_run() {
        comes_back("system", "have Longhorn restore the system backup");
    }
}

#[test]
#[ignore = "takes minutes: make test-mission"]
fn twenty_volumes_come_back_one_by_one_and_what_is_changed_afterwards_is_noticed() {
    if !can_run() {
        return;
    }
    let site = comes_back("volumes", "volume by volume, as asked for");
    site.lab
        .script(
            r#"
            import "lib/pods" as pods;
            import "apps/postgres" as postgres;
            postgres::query("shop/data-db-1", "", "DELETE FROM orders WHERE id = 77");
            // As many bytes as before.
            pods::shell("photos/data-store-2", "printf P | dd of=\"$1/file 9\" conv=notrunc 2>/dev/null", [pods::mount("photos/data-store-2").path]);
            "#,
        )
        .success();
    let said = site.make("verify-cluster").code(2).says("Error 3");
    let said = said
        .says("✗ shop/data-db-1: rows in table app.public.orders")
        .says("✗ shop/data-db-1: checksum over table app.public.orders")
        .says("✗ photos/data-store-2: checksum over a sample of files")
        .says(&passed(3));
    let touched = ["shop/data-db-1", "photos/data-store-2"];
    proven(said, claims().iter().filter(|claim| !touched.contains(&claim.name.as_str())));
}

/// A database has lost a block, and the only backup of a folder its configuration.
#[test]
#[ignore = "takes minutes: make test-mission"]
fn two_that_cannot_be_restored_are_named_and_the_eighteen_others_proven() {
    if !can_run() {
        return;
    }
    let lost = ["shop/data-db-0", "media/library"];
    let site = Remains::of_the_site().rebuilt("");
    let damage = r#"
        longhorn::sync();
        let of = #{};
        for e in longhorn::expected() { of[e.claim] = e.volume; }
        let volume = of["shop/data-db-0"];
        // The largest block holds data; the smallest may be all zeros, which nobody would miss.
        let blocks = s3::list("backupstore/volumes/").filter(|o| o.key.contains(`/${volume}/blocks/`));
        blocks.sort(|a, b| b.size - a.size);
        s3::delete(blocks[0].key);
        print(`block ${blocks[0].key}`);
        volume = of["media/library"];
        let config = s3::list("backupstore/volumes/").filter(|o| o.key.contains(`/${volume}/backups/`));
        if config.len() != 1 { fail("failed", `${config.len()} backups of media/library`); }
        s3::put(config[0].key, s3::get(config[0].key).sub_string(0, 100));
    "#;
    let said = site.lab.script(damage).success().stdout();
    let block = said.lines().find_map(|line| line.strip_prefix("block ")).expect("the block");
    let block = block.rsplit('/').next().expect("its name");

    let said = site.make("restore-cluster").code(2).says("Error 5").says("18 of 20 volumes are back").says(block);
    let named: Vec<_> =
        said.stderr().lines().filter(|line| line.contains("not restored: ")).map(str::to_owned).collect();
    assert_eq!(named.len(), 2, "{said}");
    for claim in lost {
        assert!(named.iter().any(|line| line.contains(claim) && line.contains("Next: ")), "{claim}: {named:#?}");
    }

    // The applications are deployed all the same: the lost ones begin anew, and are not called proven.
    site.deploy();
    let said = site.make("verify-cluster").code(2).says("Error 3");
    let said = said.says("✗ shop/data-db-0: origin of its data").says("✗ media/library: origin of its data");
    proven(said, claims().iter().filter(|claim| !lost.contains(&claim.name.as_str())));
}
