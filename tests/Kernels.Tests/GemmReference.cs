// The matrix product from its formula in double, and operands with guards around them. Deliberately slow and plain.
using System.Globalization;
using System.Runtime.InteropServices;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Kernels.Tests.MachineCode;
using Xunit;

namespace IptNative.Kernels.Tests;

/// <summary>One product's operands on a device, with slack between rows that is poisoned (inputs) or watched (output).</summary>
internal sealed class GemmCase : IDisposable
{
    private const int Guard = 64;
    private const float Poison = float.NaN;
    private const float Watched = -12345.678f;
    // Unit roundoff of float32.
    private const double UnitRoundoff = 1.0 / (1 << 24);

    private readonly DeviceBuffer _a, _b, _c;
    private readonly float[] _valuesA, _valuesB, _before;

    public GemmCase(ComputeDevice device, int seed, int M, int N, int K, bool transA, bool transB, bool accumulate, float alpha = 1, int slack = 0,
        int batches = 1, int innerBatches = 1, BatchStride strideA = default, BatchStride strideB = default, BatchStride strideC = default,
        long ldA = 0, long ldB = 0, long ldC = 0, DType typeB = DType.F32, DType typeA = DType.F32, ComputeType? compute = null)
    {
        if (ldA == 0)
            ldA = (transA ? M : K) + slack;
        if (ldB == 0)
            ldB = (transB ? K : N) + slack;
        if (ldC == 0)
            ldC = N + slack;
        var shape = new GemmArgs
        {
            A = default,
            B = default,
            C = default,
            M = M,
            N = N,
            K = K,
            TransA = transA,
            TransB = transB,
            LdA = ldA,
            LdB = ldB,
            LdC = ldC,
            Accumulate = accumulate,
            Alpha = alpha,
            Batches = batches,
            InnerBatches = innerBatches,
            StrideA = strideA,
            StrideB = strideB,
            StrideC = strideC,
            Compute = compute,
        };
        var random = new Random(seed);
        _valuesA = new float[Extent(shape, transA ? K : M, transA ? M : K, ldA, strideA)];
        _valuesB = new float[Extent(shape, transB ? N : K, transB ? K : N, ldB, strideB)];
        _before = new float[Extent(shape, M, N, ldC, strideC) + 2 * Guard];
        Array.Fill(_valuesA, Poison);
        Array.Fill(_valuesB, Poison);
        Array.Fill(_before, Watched);
        for (int batch = 0; batch < batches; batch++)
        {
            for (int k = 0; k < K; k++)
            {
                for (int m = 0; m < M; m++)
                    _valuesA[IndexA(shape, batch, m, k)] = Rounded(random.NextSingle() * 2 - 1, typeA);
                for (int n = 0; n < N; n++)
                    _valuesB[IndexB(shape, batch, k, n)] = Rounded(random.NextSingle() * 2 - 1, typeB);
            }
            for (int m = 0; accumulate && m < M; m++)
            {
                for (int n = 0; n < N; n++)
                    _before[Guard + IndexC(shape, batch, m, n)] = random.NextSingle() * 2 - 1;
            }
        }
        _a = Upload(device, _valuesA, typeA);
        _b = Upload(device, _valuesB, typeB);
        _c = Upload(device, _before, DType.F32);
        if (compute == ComputeType.BF16)
        {
            // From here on the values are what the formula multiplies.
            _valuesA = Array.ConvertAll(_valuesA, BF16Reference.Operand);
            _valuesB = Array.ConvertAll(_valuesB, BF16Reference.Operand);
        }
        Args = shape with { A = _a.Tensor, B = _b.Tensor, C = _c.Tensor.Slice(Guard, _before.Length - 2 * Guard) };
    }

    public GemmArgs Args { get; }

    public ReadOnlySpan<float> Result
    {
        get
        {
            var result = new float[_before.Length];
            _c.Tensor.Device.CopyToHost(_c.Tensor, MemoryMarshal.AsBytes(result.AsSpan()));
            return result;
        }
    }

    /// <summary>Puts C back to what it was.</summary>
    public void Reset() => _c.Tensor.Device.CopyFromHost(MemoryMarshal.AsBytes(_before.AsSpan()), _c.Tensor);

    /// <summary>Compares with the formula, and everything between C's rows and around it with what it was.</summary>
    public void AssertCorrect(string what)
    {
        float[] actual = Result.ToArray();
        GemmArgs args = Args;
        for (int batch = 0; batch < args.Batches; batch++)
        {
            for (int m = 0; m < args.M; m++)
            {
                for (int n = 0; n < args.N; n++)
                {
                    double sum = 0, magnitude = 0;
                    for (int k = 0; k < args.K; k++)
                    {
                        double term = (double)_valuesA[IndexA(args, batch, m, k)] * _valuesB[IndexB(args, batch, k, n)];
                        sum += term;
                        magnitude += Math.Abs(term);
                    }
                    long at = Guard + IndexC(args, batch, m, n);
                    double before = args.Accumulate ? _before[at] : 0;
                    double expected = before + args.Alpha * sum;
                    // Higham, gamma_n: one rounding for each of K products and sums (two where not fused), one for alpha, one for each visit to C.
                    // Products of two bf16 are exact in float32: there only the K sums round.
                    double roundings = (args.Compute == ComputeType.BF16 ? 1 : 2) * args.K + 2 * (args.K / 768 + 2);
                    double tolerance = roundings * UnitRoundoff * (Math.Abs(args.Alpha) * magnitude + Math.Abs(before));
                    if (!(Math.Abs(actual[at] - expected) <= tolerance))
                    {
                        Assert.Fail(string.Create(CultureInfo.InvariantCulture,
                            $"{what}: C[{batch}][{m}, {n}] of {args.M}x{args.N}x{args.K}: expected {expected}, actual {actual[at]}, tolerance {tolerance}."));
                    }
                    actual[at] = _before[at];
                }
            }
        }
        for (int i = 0; i < actual.Length; i++)
        {
            if (BitConverter.SingleToInt32Bits(actual[i]) != BitConverter.SingleToInt32Bits(_before[i]))
                Assert.Fail($"{what}: element {i - Guard} outside C of {args.M}x{args.N}x{args.K} was overwritten with {actual[i]}.");
        }
    }

    public void Dispose()
    {
        _a.Dispose();
        _b.Dispose();
        _c.Dispose();
    }

    public static DeviceBuffer Upload(ComputeDevice device, float[] values, DType type)
    {
        DeviceBuffer buffer = device.Allocate(type, values.Length, "a test operand");
        ushort[] Narrow(Func<float, ushort> bits) => Array.ConvertAll(values, v => bits(v));
        device.CopyFromHost(
            type switch
            {
                DType.F16 => MemoryMarshal.AsBytes(Narrow(v => BitConverter.HalfToUInt16Bits((Half)v)).AsSpan()),
                DType.BF16 => MemoryMarshal.AsBytes(Narrow(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)).AsSpan()),
                _ => MemoryMarshal.AsBytes(values.AsSpan()),
            },
            buffer.Tensor);
        return buffer;
    }

    private static float Rounded(float value, DType type) => type switch
    {
        DType.F16 => (float)(Half)value,
        DType.BF16 => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) & 0xffff0000),
        _ => value,
    };

    private static long Extent(in GemmArgs args, long rows, long columns, long ld, BatchStride stride) =>
        (rows - 1) * ld + columns + (args.Batches / args.InnerBatches - 1) * stride.Outer + (args.InnerBatches - 1) * stride.Inner;

    private static long IndexA(in GemmArgs args, int batch, int m, int k) =>
        Entry(args, args.StrideA, batch) + (args.TransA ? k * args.LdA + m : m * args.LdA + k);

    private static long IndexB(in GemmArgs args, int batch, int k, int n) =>
        Entry(args, args.StrideB, batch) + (args.TransB ? n * args.LdB + k : k * args.LdB + n);

    private static long IndexC(in GemmArgs args, int batch, int m, int n) => Entry(args, args.StrideC, batch) + m * args.LdC + n;

    private static long Entry(in GemmArgs args, BatchStride stride, int batch) =>
        batch / args.InnerBatches * stride.Outer + batch % args.InnerBatches * stride.Inner;
}
