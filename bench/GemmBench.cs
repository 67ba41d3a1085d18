// The matrix product at the shapes of T5 base, batch 8 of 228 positions, against the FMA peak.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Bench;

internal static class GemmBench
{
    private const int Rows = 1824;

    // A linear layer forward is x W^T with W [out, in], its input gradient dy W.
    private static readonly (string Name, int M, int N, int K, bool TransB, int Batches)[] Shapes =
    [
        ("q forward", Rows, 768, 768, true, 1),
        ("wi forward", Rows, 2048, 768, true, 1),
        ("wo forward", Rows, 768, 2048, true, 1),
        ("q backward", Rows, 768, 768, false, 1),
        ("wi backward", Rows, 768, 2048, false, 1),
        ("wo backward", Rows, 2048, 768, false, 1),
        ("lm_head forward", 64, 32128, 768, true, 1),
        ("lm_head backward", 64, 768, 32128, false, 1),
        ("decoder q forward", 64, 768, 768, true, 1),
        ("scores", 228, 228, 64, true, 96),
        ("mix", 228, 64, 228, false, 96),
    ];

    public static void Run(BenchOptions options, Ledger ledger)
    {
        using var device = new CpuDevice(options.Threads);
        using var sampler = new Sampler(device);
        Console.WriteLine($"bf16 compute: {MachineCodeStatus.Current.Detail}");
        (DType, ComputeType)[] forms =
            [(DType.F32, ComputeType.F32), (DType.BF16, ComputeType.F32), (DType.F16, ComputeType.F32), (DType.F32, ComputeType.BF16), (DType.BF16, ComputeType.BF16)];
        foreach ((DType type, ComputeType compute) in forms)
        {
            foreach ((string name, int m, int n, int k, bool transB, int batches) in Shapes)
            {
                string inBF16 = compute == ComputeType.BF16 ? ", bf16 compute" : "";
                string shape = $"{name} {type.Name()}{inBF16}";
                if (!shape.Contains(options.Only, StringComparison.Ordinal) || (batches > 1 && type != DType.F32))
                    continue;
                using var numbers = new NativeNumbers(device);
                var args = new GemmArgs
                {
                    A = numbers.Take((long)batches * m * k),
                    B = numbers.Take((long)batches * n * k, type),
                    C = numbers.Take((long)batches * m * n),
                    M = m,
                    N = n,
                    K = k,
                    TransB = transB,
                    Compute = compute,
                    Batches = batches,
                    InnerBatches = batches,
                    StrideA = new BatchStride(0, (long)m * k),
                    StrideB = new BatchStride(0, (long)n * k),
                    StrideC = new BatchStride(0, (long)m * n),
                };
                double flops = 2.0 * m * n * k * batches;
                var summary = Summary.Of(sampler.Time(options.Repeats > 0 ? options.Repeats : 60, () => Gemm.Run(device, args)), flops);
                string size = $"{(batches > 1 ? $"{batches} x " : "")}[{m} x {k}][{k} x {n}]{(transB ? "^T" : "")}";
                Console.WriteLine($"{shape,-38} {size,-26} {summary}");
                summary.ToLedger(ledger, $"{name} {m}x{n}x{k}{(batches > 1 ? $"x{batches}" : "")}", $"B {type.Name()}{(transB ? " transposed" : "")}{inBF16}");
            }
        }
    }
}
