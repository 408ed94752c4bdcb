# SPDX-License-Identifier: MIT
"""The GPU makers' generators for tools/codegen: targets, how a program is compiled, and what was made of it.

Occupancy is theoretical: the share of a multiprocessor's hardware threads (waves, warps) that can be resident at once, from registers,
local memory and work-groups. Limits and granularities are the makers' own, where each class below says.
"""
import collections
import glob
import os
import re
import shutil
import subprocess
import tempfile

CLANG = "clang-15"
MATRIX_INSTRUCTION = re.compile(r"\b(?:v_mfma_\w+|v_wmma_\w+|dpas\.\w+|mma\.sync\.aligned\.\w+)")


class Failure(Exception):
    """One sentence for the user."""


def run(command, cwd=None, **environment):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="replace", check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout


def must_run(command, cwd, **environment):
    code, output = run(command, cwd, **environment)
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if "error" in line.lower()] or output.strip().splitlines()[-1:]
        raise Failure(lines[0] if lines else f"{command[0]} ended with {code}")
    return output


def read(path):
    with open(path, "rb") as f:
        return f.read().decode("latin-1")


def up(value, granule):
    return -(-value // granule) * granule


def first_glob(*patterns):
    return next((path for pattern in patterns for path in sorted(glob.glob(pattern))), None)


def matrix_unit(options):
    """Is the program there for the target's matrix units?"""
    return any(option.startswith("-DMMA=") for option in options)


def resolved(outside):
    """Compilers leave to a linker what they do not find."""
    if outside:
        raise Failure(f"calls {min(outside)}, which no library has")


class Built:
    """What a generator made of a program: registers in its own words and numbers, bytes of memory a work-item, bytes a group; code: the
    text that shows its matrix instructions; group: the work-items that its reqd_work_group_size says, or none."""

    def __init__(self, code, registers, spills, private, shared, group=(), **numbers):
        self.registers, self.spills, self.private, self.shared = registers, spills, private, shared
        self.group = "x".join(group)
        self.numbers = numbers
        found = collections.Counter(MATRIX_INSTRUCTION.findall(code))
        self.matrix = ", ".join(f"{name} {count}x" for name, count in sorted(found.items()))


class Amd:
    """LLVM's AMDGPU backend, which is what AMD's drivers compile with.

    A compute unit (gfx10: work-group processor) has 4 SIMDs. Vector registers of a SIMD are dealt out to waves in granules, and so
    are scalar ones before gfx10. More than one wave a group needs one of 16 barriers (gfx10: 32); single waves do not.
    Limits: LLVM's AMDGPUBaseInfo.cpp, the RDNA 2, "Vega" and CDNA 2 instruction set guides."""

    name, packages, matrix_only = "AMD", "clang-15, rocm-device-libs", ()
    SIMDS = 4
    # wave size, waves a SIMD, vector registers a SIMD's lane and their granule, scalar registers a SIMD (0: no limit) and theirs,
    # local memory, groups with a barrier; then the device that list_programs imitates
    targets = {
        "gfx900": (64, 10, 256, 4, 800, 16, 65536, 16, "gpukhr:65536:256:64"),
        "gfx90a": (64, 8, 512, 8, 800, 16, 65536, 16, "gpukhr:65536:256:104:mfma"),
        "gfx1030": (32, 16, 1024, 16, 0, 1, 131072, 32, "gpukhr:65536:256:36"),
        "gfx1100": (32, 16, 1536, 24, 0, 1, 131072, 32, "gpukhr:65536:256:48:wmma"),
    }

    def __init__(self):
        self.library = first_glob("/usr/lib/*/amdgcn/bitcode", "/opt/rocm*/amdgcn/bitcode")
        self.completed = None

    def version(self):
        return run([CLANG, "--version"])[1].splitlines()[0]

    def missing(self, target):
        if not shutil.which(CLANG) or not self.library:
            return f"needs the packages {self.packages}"
        return None if self.knows(target) or self.complete(target) else "rocm-device-libs does not know it"

    def knows(self, target):
        return os.path.exists(f"{self.library}/oclc_isa_version_{target[3:]}.bc")

    def complete(self, target):
        """The same libraries with what they lack of a newer target: the file of a target holds a constant, its number, and no more."""
        if not self.completed:
            self.completed = tempfile.TemporaryDirectory()
            for path in glob.glob(f"{self.library}/*.bc"):
                os.symlink(path, os.path.join(self.completed.name, os.path.basename(path)))
        name = target[3:]
        source = os.path.join(self.completed.name, "isa.cl")
        with open(source, "w", encoding="ascii") as f:
            f.write(f"const __constant int __oclc_ISA_version = {int(name[:-2]) * 1000 + int(name[-2]) * 100 + int(name[-1], 16)};\n")
        return run([CLANG, "-x", "cl", "-nogpulib", "-target", "amdgcn-amd-amdhsa", "-emit-llvm", "-c", source, "-o",
                    os.path.join(self.completed.name, f"oclc_isa_version_{name}.bc")])[0] == 0

    def partly(self, target):
        return None

    def compile(self, source, options, target, folder):
        out = os.path.join(folder, "out.s")
        library = self.library if self.knows(target) else self.completed.name
        must_run([CLANG, "-x", "cl", *options, "-O3", "-target", "amdgcn-amd-amdhsa", f"-mcpu={target}",
                  f"--rocm-device-lib-path={library}", "-S", "-o", out, source], folder)
        text = read(out)
        called, labels = re.findall(r"([\w.$]+)@(?:got)?(?:pc)?rel32", text), re.findall(r"^([\w.$]+):", text, re.MULTILINE)
        resolved(set(called) - set(labels))
        value = {key: int(number) for key, number in re.findall(r"^\s+(?:- )?\.(\w+):\s+(\d+)$", text, re.MULTILINE)}
        vector, scalar = value["vgpr_count"], value["sgpr_count"]
        return Built(text, f"{vector} v {scalar} s", value["vgpr_spill_count"] + value["sgpr_spill_count"],
                     value["private_segment_fixed_size"], value["group_segment_fixed_size"],
                     re.findall(r"^\s+- +(\d+)$", text.partition(".reqd_workgroup_size:")[2], re.MULTILINE)[:3], vector=vector, scalar=scalar)

    def occupancy(self, built, target, items, local_bytes):
        wave, most, vectors, v_granule, scalars, s_granule, memory, barriers, _ = self.targets[target]
        waves = min(most, vectors // up(max(built.numbers["vector"], 1), v_granule))
        if scalars:
            waves = min(waves, scalars // up(max(built.numbers["scalar"], 1), s_granule))
        group = -(-items // wave)
        groups = waves * self.SIMDS // group
        if group > 1:
            groups = min(groups, barriers)
        if local_bytes:
            groups = min(groups, memory // up(local_bytes, 512))
        return groups * group / (most * self.SIMDS), items / (group * wave)


class Intel:
    """Intel's graphics compiler, through ocloc.

    Every hardware thread has 128 registers of 32 (Xe HPC: 64) bytes for its 8, 16 or 32 work-items, so registers do not limit occupancy: they
    decide how many work-items a thread takes, and what is left over spills. A subslice (Xe core) has a fixed number of threads,
    32 barriers, and local memory that is dealt out in powers of two.
    Limits: Intel's "Compute Architecture of Gen9" and the GPU optimization guide of oneAPI; barriers: compute-runtime."""

    name, packages = "Intel", "intel-opencl-icd"
    BARRIERS = 32
    # threads and local memory of a subslice; the device that list_programs imitates
    targets = {
        "skl": (56, 65536, "gpusub:65536:256:24"),
        "tgllp": (112, 131072, "gpusub:65536:512:96"),
        "adlp": (112, 131072, "gpusub:65536:512:96"),
        "dg2": (128, 131072, "gpusub:65536:1024:512:dpas8"),
        "pvc": (64, 131072, "gpu:65536:1024:512:dpas16"),
    }
    # Here for its matrix units alone: SIMD32 is what it compiles the others for, of which conv2d_gemm and linear_forward spill a dozen registers.
    matrix_only = {"pvc"}

    def version(self):
        return "ocloc " + run(["dpkg-query", "-W", "-f=${Version}", self.packages])[1].strip()

    def missing(self, target):
        return None if shutil.which("ocloc") else f"needs the package {self.packages}"

    def partly(self, target):
        return None

    def compile(self, source, options, target, folder):
        dumps = os.path.join(folder, "dumps")
        os.mkdir(dumps)
        dump = {"IGC_ShaderDumpEnable": "1", "IGC_DumpToCustomDir": dumps} if matrix_unit(options) else {}
        output = must_run(["ocloc", "compile", "-file", source, "-device", target, "-options", " ".join(options), "-internal_options",
                           "-cl-intel-allow-zebin", "-out_dir", folder], folder, **dump)
        assembly = max(glob.glob(f"{dumps}/*.asm"), key=os.path.getmtime, default=None)  # of several attempts the last
        binary = first_glob(f"{folder}/*.bin")
        text = read(binary) if binary else ""
        if "simd_size:" not in text:
            raise Failure("ocloc wrote no binary that tells of its kernel")
        resolved(re.findall(r" UND (\S+)$", must_run(["readelf", "-sW", binary], folder), re.MULTILINE))
        info = text[text.index("kernels:"):text.index("kernels_misc_info:")]
        value = {key: int(number) for key, number in re.findall(r"(simd_size|slm_size|barrier_count): +(\d+)", info)}
        buffers = re.findall(r"usage: +(\w+)\s+size: +(\d+)", info.partition("per_thread_memory_buffers:")[2])
        private = sum(int(size) if usage == "private_space" else int(size) // value["simd_size"] for usage, size in buffers)
        group = re.search(r"required_work_group_size: +\[ (\d+), (\d+), (\d+) \]", info)
        spilled = re.search(r"spilled around (\d+)", output)
        return Built(read(assembly) if assembly else "", f"SIMD{value['simd_size']}", int(spilled.group(1)) if spilled else 0,
                     private, value.get("slm_size", 0), group.groups() if group else (), simd=value["simd_size"], barriers=value.get("barrier_count", 0))

    def occupancy(self, built, target, items, local_bytes):
        threads, memory, _ = self.targets[target]
        simd = built.numbers["simd"]
        group = -(-items // simd)
        groups = threads // group
        if built.numbers["barriers"]:
            groups = min(groups, self.BARRIERS // built.numbers["barriers"])
        if local_bytes:
            groups = min(groups, memory // max(1024, 1 << (local_bytes - 1).bit_length()))
        return groups * group / threads, items / (group * simd)


class Nvidia:
    """LLVM's PTX with the OpenCL library libclc, and the toolkit's ptxas where it is there and knows the target.

    Four parts of a multiprocessor have 16384 registers each, dealt out to warps by 256. LLVM 15 ends at sm_86: newer targets get
    sm_80's PTX, as a driver would. Limits: CUDA programming guide, table of compute capabilities."""

    name, packages, matrix_only = "NVIDIA", "clang-15, libclc-15", ()
    WARP, PARTS, REGISTERS, GRANULE, WARPS, GROUPS = 32, 4, 16384, 256, 64, 32
    # PTX's target, shared memory of a multiprocessor, granule, what each group takes besides; the device that list_programs imitates
    targets = {
        "sm_70": ("sm_70", 98304, 256, 0, "gpu:49152:1024:80"),
        "sm_80": ("sm_80", 167936, 128, 1024, "gpu:49152:1024:108:mma"),
        "sm_90": ("sm_80", 233472, 128, 1024, "gpu:49152:1024:132:mma"),
    }

    def __init__(self):
        self.library = first_glob("/usr/lib/clc/nvptx64--nvidiacl.bc", "/usr/share/clc/nvptx64--nvidiacl.bc")
        self.known = run(["ptxas", "--help"])[1] if shutil.which("ptxas") else None

    def version(self):
        found = re.search(r"V([\d.]+)", run(["ptxas", "--version"])[1]) if self.known else None
        return "libclc-15, " + (f"ptxas {found.group(1)}" if found else "no ptxas")

    def missing(self, target):
        return None if shutil.which(CLANG) and self.library else f"needs the packages {self.packages}"

    def partly(self, target):
        """Why there are no registers to tell of."""
        if self.known is None:
            return "PTX only: no ptxas (CUDA toolkit) on PATH"
        return None if f"'{target}'" in self.known else "PTX only: this version of ptxas does not know it"

    def compile(self, source, options, target, folder):
        ptx = os.path.join(folder, "out.ptx")
        must_run([CLANG, "-x", "cl", *options, "-O3", "-target", "nvptx64-nvidia-nvcl", f"-march={self.targets[target][0]}", "-Xclang",
                  "-mlink-builtin-bitcode", "-Xclang", self.library, "-S", "-o", ptx, source], folder)
        resolved(re.findall(r"^\.extern \.func .*?(\w+)\s*$", read(ptx), re.MULTILINE))
        group = re.search(r"reqd_work_group_size\((\d+), (\d+), (\d+)\)", must_run(
            [CLANG, "-x", "cl", *options, "-E", "-P", source], folder))  # which LLVM's PTX does not say
        group = group.groups() if group else ()
        if self.partly(target):
            return Built(read(ptx), "", 0, 0, 0, group)
        output = must_run(["ptxas", "-v", f"-arch={target}", ptx, "-o", os.path.join(folder, "out.cubin")], folder)

        def number(pattern):
            found = re.search(pattern, output)
            return int(found.group(1)) if found else 0

        registers = number(r"Used (\d+) registers")
        return Built(read(ptx), f"{registers}", number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
                     number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes smem"), group, words=registers)

    def occupancy(self, built, target, items, local_bytes):
        if self.partly(target):
            return None, 1
        _, memory, granule, reserved, _ = self.targets[target]
        warps = self.REGISTERS // up(max(built.numbers["words"], 1) * self.WARP, self.GRANULE) * self.PARTS
        group = -(-items // self.WARP)
        groups = min(self.GROUPS, warps // group, self.WARPS // group, memory // max(up(local_bytes + reserved, granule), 1))
        return groups * group / self.WARPS, items / (group * self.WARP)
