# For cmake as crates call it (.cargo/config.toml): static archives only. Unicorn's build links a
# shared library besides, which nothing here uses and which `-static` (crt-static) cannot make.
set(BUILD_SHARED_LIBS OFF CACHE BOOL "")
