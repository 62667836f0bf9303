# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its caller sets and reads some of the names
# Sourced by tools/gpu-check and tools/gpu-pack, with $root: compiles the CUDA plugins and the programs
# for a GPU with nothing but nvcc and a C compiler, as many files at once as there are processors.
# The caller has row NAME STATUS [TEXT], which shows a line of its table.
#   gpu_build DIR ARCH strict|lenient    0, or 1 with a row of what failed
#   gpu_sources_hash                     stands for all sources that programs are made of
# The lists of sources come from meson: $GPU_SOURCES, a build folder, a pack, or meson is called.
gpu_programs=(gpu_smoke gpu_probe model_check eep-bench)
gpu_plugins=(libeep_cuda.so libeep_model_cuda.so)

# What the programs are made of is written in the folders' meson.build files. Meson tells it in a file
# (tests/gpu/meson.build), whose first line stands for these build files: a list of others is passed over.
gpu_build_files_hash() {
    find graphs transport membership repair experiments tests/gpu -name meson.build -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-16
}
gpu_list_fits() { # FILE
    [ -s "$1" ] && [ "$(head -n 1 "$1")" = "# of the build files $(gpu_build_files_hash)" ]
}
# Prints the list's path. A build folder's, a pack's, or one that meson makes now.
gpu_find_list() {
    local list meson
    for list in "${GPU_SOURCES:-}" "$gpu_dir/gpu-sources.txt" build*/tests/gpu/gpu-sources.txt \
        "${pack:-gpu-runs}/gpu-sources.txt" gpu-runs/gpu-sources.txt "$gpu_dir/meson/tests/gpu/gpu-sources.txt"; do
        ! gpu_list_fits "$list" || { echo "$list"; return 0; }
    done
    meson=${MESON:-/usr/bin/meson} # Debian's, which has Debian's modules
    list=$gpu_dir/meson/tests/gpu/gpu-sources.txt
    if command -v "$meson" >/dev/null; then
        rm -rf "$gpu_dir/meson"
        env -u LIBRARY_PATH "$meson" setup "$gpu_dir/meson" . >"$gpu_dir/meson.txt" 2>&1 || true
        ! gpu_list_fits "$list" || { echo "$list"; return 0; }
    fi
    echo "no list of the programs' sources: run 'meson setup build' here, or bring gpu-runs/gpu-sources.txt" \
        "of tools/gpu-pack along"
    return 1
}
# Sets an array for each program, gpu_shared for the archive that they share. 1: prints why not.
gpu_find_sources() {
    local list
    list=$(gpu_find_list) || { echo "$list"; return 1; }
    [ "$list" -ef "$gpu_dir/gpu-sources.txt" ] || cp "$list" "$gpu_dir/gpu-sources.txt"
    list=$gpu_dir/gpu-sources.txt
    mapfile -t gpu_plugin < <(sed -n 's/^libeep_cuda.so //p' "$list")
    mapfile -t gpu_model_plugin < <(sed -n 's/^libeep_model_cuda.so //p' "$list")
    mapfile -t gpu_smoke < <(sed -n 's/^gpu_smoke //p' "$list")
    mapfile -t gpu_probe < <(sed -n 's/^gpu_probe //p' "$list")
    mapfile -t gpu_model < <(sed -n 's/^model_check //p' "$list")
    mapfile -t gpu_bench < <(sed -n 's/^eep-bench //p' "$list")
    mapfile -t gpu_shared < <(sed -n 's/^libshared.a //p' "$list")
}

gpu_objects() { # SOURCES...: the objects, one a line
    printf '%s\n' "$@" | sed "s|/|_|g; s|.*|$gpu_dir/&.o|"
}

# Where nvcc, its headers and its runtime are; sets gpu_nvcc, gpu_cc, gpu_cuda, gpu_cudart.
gpu_find_compilers() {
    gpu_cc=${CC:-cc}
    gpu_nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
    command -v "$gpu_nvcc" >/dev/null || { echo "no nvcc: install a CUDA toolkit or set NVCC"; return 1; }
    command -v "$gpu_cc" >/dev/null || { echo "no C compiler: set CC"; return 1; }
    gpu_cuda=$(dirname "$(dirname "$(readlink -f "$(command -v "$gpu_nvcc")")")")
    gpu_cudart=$(for dir in "$gpu_cuda"/lib64 "$gpu_cuda"/targets/*/lib /usr/lib/*-linux-gnu; do
        [ ! -e "$dir/libcudart_static.a" ] || { printf '%s' "$dir"; break; }
    done)
    [ -n "$gpu_cudart" ] || { echo "libcudart_static.a is not under $gpu_cuda"; return 1; }
}

# One file; its compiler's words go beside its object.
gpu_compile_one() {
    local source=$1 object
    object=$(gpu_objects "$source")
    # shellcheck disable=SC2086
    case $source in
    *.cu) "$gpu_nvcc" $gpu_nvflags -c "$source" -o "$object" >"$object.txt" 2>&1 ;;
    *) "$gpu_cc" $gpu_cflags -c "$source" -o "$object" >"$object.txt" 2>&1 ;;
    esac && return
    cat "$object.txt" >&2
    echo "$source" >>"$gpu_dir/failed.txt"
    return 1
}

# -fvisibility=hidden and --exclude-libs: the plugin exports one function. xxhash.h comes along.
# Nobody calls nvcc's launch stubs, so what they would need of the C++ library is left out. Warnings
# are errors only where somebody can mend them: on a machine that exists once they stop nothing.
gpu_set_flags() { # ARCH strict|lenient
    local error='' errors=''
    [ "$2" != strict ] || { error=-Werror; errors='-Werror all-warnings'; }
    gpu_cflags="-std=c17 -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden -ffp-contract=off
        -fno-delete-null-pointer-checks -Wall -Wextra $error -Wshadow -Wno-missing-field-initializers
        -I. -Iinclude -Itools/gpu_headers -isystem $gpu_cuda/include"
    gpu_nvflags="-std=c++17 -O3 -lineinfo -I. -Iinclude
        -gencode arch=compute_$1,code=[sm_$1,compute_$1] -Xptxas -v
        -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-fno-exceptions,-fno-threadsafe-statics
        $errors"
}

# Registers and spills of each kernel, by ptxas. 1: there are spills, or no kernels.
gpu_show_kernels() {
    local spilled=0 name registers stack spill
    cat "$gpu_dir"/*.cu.o.txt | awk '
        /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
        /bytes stack frame/ { for (i = 1; i < NF; i++) {
            if ($(i + 1) == "bytes" && $(i + 2) == "stack") stack = $i
            if ($(i + 2) == "spill" && $(i + 3) ~ /^stores/) spill = $i } }
        /Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used")
            printf "%s %d %d %d\n", name, $(i + 1), stack, spill }' >"$gpu_dir/kernels.txt"
    [ -s "$gpu_dir/kernels.txt" ] || { row "kernels" FAILED "ptxas reported none"; return 1; }
    while read -r name registers stack spill; do
        row "  $name" "$([ "$spill" -eq 0 ] && echo ok || echo FAILED)" \
            "$registers registers, $stack bytes of stack, $spill spilled"
        [ "$spill" -eq 0 ] || spilled=1
    done <"$gpu_dir/kernels.txt"
    [ "$spilled" -eq 0 ] || { row "kernels" FAILED "registers are spilled"; return 1; }
}

gpu_link() { # OUTPUT ARGUMENTS...
    local out=$1
    shift
    "$gpu_cc" -o "$gpu_dir/$out" "$@" || { row "$out" FAILED "link"; return 1; }
}

gpu_link_all() {
    local runtime=(-L"$gpu_cudart" -lcudart_static -ldl -lrt -lpthread)
    local closed=(-shared "-Wl,-z,defs" "-Wl,--exclude-libs,ALL")
    local archive=$gpu_dir/libshared.a objects
    mapfile -t objects < <(gpu_objects "${gpu_shared[@]}")
    rm -f "$archive"
    ar rcs "$archive" "${objects[@]}" || { row "libshared.a" FAILED "ar"; return 1; }
    mapfile -t objects < <(gpu_objects "${gpu_plugin[@]}")
    gpu_link libeep_cuda.so "${closed[@]}" -Wl,-soname,libeep_cuda.so "${objects[@]}" "${runtime[@]}" || return
    row "libeep_cuda.so" ok "cudart linked statically, no libcuda"
    mapfile -t objects < <(gpu_objects "${gpu_model_plugin[@]}")
    gpu_link libeep_model_cuda.so "${closed[@]}" -Wl,-soname,libeep_model_cuda.so "${objects[@]}" \
        "${runtime[@]}" || return
    row "libeep_model_cuda.so" ok "the model's kernels, the same way"
    mapfile -t objects < <(gpu_objects "${gpu_smoke[@]}")
    gpu_link gpu_smoke "${objects[@]}" "$archive" "${runtime[@]}" || return
    mapfile -t objects < <(gpu_objects "${gpu_probe[@]}")
    gpu_link gpu_probe "${objects[@]}" "$archive" "${runtime[@]}" || return
    mapfile -t objects < <(gpu_objects "${gpu_model[@]}")
    gpu_link model_check "${objects[@]}" "$archive" -ldl -lm -lpthread || return
    mapfile -t objects < <(gpu_objects "${gpu_bench[@]}")
    gpu_link eep-bench "${objects[@]}" "$archive" "${runtime[@]}" -lm
}

gpu_build() {
    local why kernels=() others=() source begin=$SECONDS
    gpu_dir=$1
    mkdir -p "$gpu_dir"
    rm -f "$gpu_dir"/*.o "$gpu_dir"/*.o.txt "$gpu_dir/failed.txt"
    gpu_find_compilers >"$gpu_dir/compilers.txt" ||
        { why=$(cat "$gpu_dir/compilers.txt"); row "compilers" FAILED "$why"; return 1; }
    gpu_set_flags "$2" "$3"
    gpu_find_sources >"$gpu_dir/why.txt" ||
        { why=$(cat "$gpu_dir/why.txt"); row "sources" FAILED "$why"; return 1; }
    for source in "${gpu_plugin[@]}" "${gpu_smoke[@]}" "${gpu_probe[@]}" "${gpu_bench[@]}" \
        "${gpu_model[@]}" "${gpu_model_plugin[@]}" "${gpu_shared[@]}"; do
        case $source in *.cu) kernels+=("$source") ;; *) others+=("$source") ;; esac
    done
    export gpu_dir gpu_cc gpu_nvcc gpu_cflags gpu_nvflags
    export -f gpu_compile_one gpu_objects
    # the longest first; LIBRARY_PATH may name the driver's stub library, which nothing here needs
    printf '%s\0' "${kernels[@]}" "${others[@]}" |
        env -u LIBRARY_PATH timeout -k 5 180 xargs -0 -n 1 -P "$(nproc)" bash -c 'gpu_compile_one "$1"' compile || true
    [ ! -s "$gpu_dir/failed.txt" ] || { row "compile" FAILED "$(tr '\n' ' ' <"$gpu_dir/failed.txt")"; return 1; }
    row "C sources" ok "${#others[@]} files"
    row "CUDA sources" ok "${#kernels[@]} files, sm_$2 and PTX"
    gpu_show_kernels || { [ "$3" = lenient ] || return 1; }
    gpu_link_all || return 1
    row "gpu_smoke, gpu_probe, model_check, eep-bench" ok "built in $((SECONDS - begin)) s"
}

gpu_sources_hash() {
    find graphs include membership transport repair experiments tests/gpu -type f \
        \( -name '*.[ch]' -o -name '*.cu' \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
        sha256sum | cut -c1-16
}
