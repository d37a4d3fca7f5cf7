//! What the documents show is what the binary prints. `TRYCMD=overwrite cargo test -p identmap-cli
//! --test documents` writes the present output into them.

#[test]
fn documents_show_what_the_binary_prints() {
    // Paths in the documents begin at the root of the repository.
    std::env::set_current_dir("../..").expect("the root");
    trycmd::TestCases::new()
        // Pictures are drawn with blocks.
        .env("LC_ALL", "C.UTF-8")
        .register_bin("identmap", trycmd::cargo::cargo_bin!("identmap"))
        .case("README.md")
        .case("docs/*.md")
        .case("crates/cli/tests/cmd/*.md");
}
