// Every kernel compiled to PTX by the real compiler, for two architectures and without a GPU; what can be read from the text is asserted.
#if !ILGPU_EMULATION
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class PtxTests
{
    // Kernels that promise 16-byte accesses.
    private static readonly string[] Wide = ["RmsNorm.", "ElementKernel<", "CrossEntropy.LossKernel", "Conversion.", "EmbeddingGather.", "CachedAttention.", "KeyValueStore.", "FewRowsKernel<F32Octet", "FewRowsKernel<BF16Octet", "FewRowsKernel<F16Octet", "PromptGather.ForwardKernel", "PromptGather.BackwardKernel"];

    public static TheoryData<string> Names => KernelTypes.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void CompilesForAmpereAndHopper(string kernel)
    {
        foreach ((CudaArchitecture architecture, string target) in ((CudaArchitecture, string)[])[(CudaArchitecture.SM_80, "sm_80"), (CudaArchitecture.SM_90, "sm_90")])
        {
            string ptx = Compile(kernel, architecture);
            Save(kernel, target, ptx);
            // Whatever the device, ILGPU's own target ends at sm_80 or what was asked for; drivers compile it for theirs.
            Assert.Matches(@"\.target sm_(80|90)", ptx);
            Assert.DoesNotContain(".extern .func", ptx);
            Assert.DoesNotContain(".local", ptx);
            Assert.DoesNotContain("div.approx", ptx);
            if (kernel is "BF16GemmKernel" or "TF32GemmKernel")
            {
                Assert.Contains(kernel == "BF16GemmKernel" ? "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" : "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", ptx);
                Assert.Contains("cp.async.cg.shared.global", ptx);
            }
            if (kernel.Contains("<Tile64x64>", StringComparison.Ordinal))
                Assert.Matches(@"ld\.shared\.v4\.f32", ptx);
            if (Wide.Any(kernel.StartsWith))
                Assert.Matches(@"(ld|st)\.global\.v4\.(f32|b32|u32)", ptx);
        }
    }

    private static string Compile(string kernel, CudaArchitecture architecture)
    {
        // A context of its own: one that has compiled for one backend keeps what it learnt.
        using var context = Context.Create(builder => builder.DefaultCPU().Optimize(OptimizationLevel.O2).Inlining(InliningMode.Aggressive));
        using var backend = new PTXBackend(context, architecture, CudaInstructionSet.ISA_80, null!);
        EntryPointDescription entry = EntryPointDescription.FromExplicitlyGroupedKernel(KernelTypes.Run(KernelTypes.ByName[kernel]));
        return ((PTXCompiledKernel)backend.Compile(entry, default)).PTXAssembly;
    }

    // For an assembler's eyes, where there is one: IPTNATIVE_PTX_FOLDER keeps the texts.
    private static void Save(string kernel, string target, string ptx)
    {
        if (Environment.GetEnvironmentVariable("IPTNATIVE_PTX_FOLDER") is { Length: > 0 } folder)
            File.WriteAllText(Path.Combine(folder, $"{string.Concat(kernel.Split('<', '>', ' ', ','))}.{target}.ptx"), ptx);
    }
}
#endif
