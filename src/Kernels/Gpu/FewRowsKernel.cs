// The product of a handful of rows with a frozen matrix on a GPU: a decoder's step. Bound by reading the matrix once, so it is read as it is stored, 8 numbers
// to a lane, and widened in registers; the library would widen all of it into memory first. Deliberately not: tensor cores, transposed operands, batches (Gemm).
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>Two 32-bit words: eight 8-bit codes.</summary>
internal struct U2
{
    public uint X, Y;
}

/// <summary>Eight neighbours of a row.</summary>
internal struct F8
{
    public F4 Low, High;
}

/// <summary>Operands and dimensions.</summary>
internal struct FewRowsArgs
{
    public ArrayView<float> A, C, Wide, Scales;
    public ArrayView<ushort> Narrow;
    public ArrayView<byte> Codes, ZeroPoints;
    public long M, N, Octets, StepA, StepB, StepC, ScalesPerRow, ZeroBytes, Block;
    public float Alpha;
    public GpuFlag Accumulate, Rounds;
}

/// <summary>How eight numbers of a stored row are read.</summary>
internal interface IWeightOctet
{
    static abstract F8 Load(FewRowsArgs p, long row, long octet);
}

internal struct F32Octet : IWeightOctet
{
    public static F8 Load(FewRowsArgs p, long row, long octet)
    {
        ArrayView<F4> wide4 = p.Wide.Cast<F4>();
        long at = row * p.StepB / 4 + 2 * octet;
        return new F8 { Low = wide4[at], High = wide4[at + 1] };
    }
}

internal struct BF16Octet : IWeightOctet
{
    public static F8 Load(FewRowsArgs p, long row, long octet)
    {
        U4 v = p.Narrow.Cast<U4>()[row * p.StepB / 8 + octet];
        return new F8 { Low = new F4(Low(v.X), High(v.X), Low(v.Y), High(v.Y)), High = new F4(Low(v.Z), High(v.Z), Low(v.W), High(v.W)) };
    }

    private static float Low(uint bits) => Interop.IntAsFloat(bits << 16);

    private static float High(uint bits) => Interop.IntAsFloat(bits & 0xFFFF_0000u);
}

internal struct F16Octet : IWeightOctet
{
    public static F8 Load(FewRowsArgs p, long row, long octet)
    {
        U4 v = p.Narrow.Cast<U4>()[row * p.StepB / 8 + octet];
        return new F8 { Low = new F4(At(v.X), At(v.X >> 16), At(v.Y), At(v.Y >> 16)), High = new F4(At(v.Z), At(v.Z >> 16), At(v.W), At(v.W >> 16)) };
    }

    private static float At(uint bits) => GpuBits.FromF16((ushort)bits);
}

internal struct I8Octet : IWeightOctet
{
    public static F8 Load(FewRowsArgs p, long row, long octet)
    {
        U2 v = p.Codes.Cast<U2>()[row * p.StepB / 8 + octet];
        float scale = p.Scales[row * p.ScalesPerRow + 8 * octet / p.Block];
        return new F8 { Low = Four(v.X, scale), High = Four(v.Y, scale) };
    }

    private static F4 Four(uint bits, float scale) => new(((int)(bits << 24) >> 24) * scale, ((int)(bits << 16) >> 24) * scale, ((int)(bits << 8) >> 24) * scale, ((int)bits >> 24) * scale);
}

internal struct U4Octet : IWeightOctet
{
    public static F8 Load(FewRowsArgs p, long row, long octet)
    {
        uint v = p.Codes.Cast<uint>()[row * p.StepB / 8 + octet];
        long block = 8 * octet / p.Block;
        float scale = p.Scales[row * p.ScalesPerRow + block];
        int zero = (p.ZeroPoints[row * p.ZeroBytes + (block >> 1)] >> (int)((block & 1) << 2)) & 15;
        return new F8 { Low = Four(v, zero, scale), High = Four(v >> 16, zero, scale) };
    }

    private static F4 Four(uint bits, int zero, float scale) =>
        new(((int)(bits & 15) - zero) * scale, ((int)((bits >> 4) & 15) - zero) * scale, ((int)((bits >> 8) & 15) - zero) * scale, ((int)((bits >> 12) & 15) - zero) * scale);
}

/// <summary>A warp: four columns of C in eight rows.</summary>
internal struct FewRowsKernel<TOctet> : IGpuKernel<FewRowsKernel<TOctet>>
    where TOctet : struct, IWeightOctet
{
    public FewRowsArgs P;

    public static void Run(FewRowsKernel<TOctet> k)
    {
        FewRowsArgs p = k.P;
        int lane = Warp.LaneIdx, warp = Warp.WarpSize;
        long row = (long)Grid.IdxY * FewRowsGemm.Rows, rows = p.M - row;
        for (long column = GpuRows.First() * FewRowsGemm.Columns; column < p.N; column += GpuRows.Stride() * FewRowsGemm.Columns)
        {
            F4 c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
            // Columns behind the last are read as the last, and thrown away.
            long last = p.N - 1, second = column < last ? column + 1 : last, third = second < last ? second + 1 : last, fourth = third < last ? third + 1 : last;
            for (long octet = lane; octet < p.Octets; octet += warp)
            {
                F8 b0 = Weight(p, column, octet), b1 = Weight(p, second, octet), b2 = Weight(p, third, octet), b3 = Weight(p, fourth, octet);
                c0 = Added(p, c0, row, octet, b0, b1, b2, b3);
                if (rows > 1)
                    c1 = Added(p, c1, row + 1, octet, b0, b1, b2, b3);
                if (rows > 2)
                    c2 = Added(p, c2, row + 2, octet, b0, b1, b2, b3);
                if (rows > 3)
                    c3 = Added(p, c3, row + 3, octet, b0, b1, b2, b3);
                if (rows > 4)
                    c4 = Added(p, c4, row + 4, octet, b0, b1, b2, b3);
                if (rows > 5)
                    c5 = Added(p, c5, row + 5, octet, b0, b1, b2, b3);
                if (rows > 6)
                    c6 = Added(p, c6, row + 6, octet, b0, b1, b2, b3);
                if (rows > 7)
                    c7 = Added(p, c7, row + 7, octet, b0, b1, b2, b3);
            }
            Store(p, row, column, c0);
            if (rows > 1)
                Store(p, row + 1, column, c1);
            if (rows > 2)
                Store(p, row + 2, column, c2);
            if (rows > 3)
                Store(p, row + 3, column, c3);
            if (rows > 4)
                Store(p, row + 4, column, c4);
            if (rows > 5)
                Store(p, row + 5, column, c5);
            if (rows > 6)
                Store(p, row + 6, column, c6);
            if (rows > 7)
                Store(p, row + 7, column, c7);
        }
    }

    private static F8 Weight(FewRowsArgs p, long column, long octet)
    {
        F8 b = TOctet.Load(p, column, octet);
        return p.Rounds ? Rounded(b) : b;
    }

    private static F4 Added(FewRowsArgs p, F4 sum, long row, long octet, F8 b0, F8 b1, F8 b2, F8 b3)
    {
        ArrayView<F4> a4 = p.A.Cast<F4>();
        long at = row * p.StepA / 4 + 2 * octet;
        var a = new F8 { Low = a4[at], High = a4[at + 1] };
        if (p.Rounds)
            a = Rounded(a);
        return new F4(sum.X + Product(a, b0), sum.Y + Product(a, b1), sum.Z + Product(a, b2), sum.W + Product(a, b3));
    }

    private static float Product(F8 a, F8 b) =>
        a.Low.X * b.Low.X + a.Low.Y * b.Low.Y + a.Low.Z * b.Low.Z + a.Low.W * b.Low.W + a.High.X * b.High.X + a.High.Y * b.High.Y + a.High.Z * b.High.Z + a.High.W * b.High.W;

    private static F8 Rounded(F8 x) => new() { Low = Rounded(x.Low), High = Rounded(x.High) };

    private static F4 Rounded(F4 x) => new(Rounded(x.X), Rounded(x.Y), Rounded(x.Z), Rounded(x.W));

    private static float Rounded(float x) => GpuBits.FromBF16(GpuBits.ToBF16(x));

    // Sums of the lanes, in every lane; the first four store a column each.
    private static void Store(FewRowsArgs p, long row, long column, F4 c)
    {
        for (int mask = Warp.WarpSize / 2; mask > 0; mask >>= 1)
            c = new F4(c.X + Warp.ShuffleXor(c.X, mask), c.Y + Warp.ShuffleXor(c.Y, mask), c.Z + Warp.ShuffleXor(c.Z, mask), c.W + Warp.ShuffleXor(c.W, mask));
        int lane = Warp.LaneIdx;
        if (lane >= FewRowsGemm.Columns || column + lane >= p.N)
            return;
        float sum = p.Alpha * (lane == 0 ? c.X : lane == 1 ? c.Y : lane == 2 ? c.Z : c.W);
        long at = row * p.StepC + column + lane;
        p.C[at] = p.Accumulate ? p.C[at] + sum : sum;
    }
}

/// <summary>Chooses and launches <see cref="FewRowsKernel{TOctet}"/>.</summary>
internal static class FewRowsGemm
{
    /// <summary>Rows of a warp: their sums for four columns are 32 registers.</summary>
    public const int Rows = 8;

    /// <summary>Columns of a warp.</summary>
    public const int Columns = 4;

    // The matrix is read once for every 8 rows; widening it first reads and writes it three times over in float32. From reckoning, not measured.
    private const int MostRows = 64;

    // Of a float32 matrix, where there is no library.
    private const int MostWideRows = 16;

    /// <summary>Whether this is the kernel for a product.</summary>
    public static bool Takes(IlgpuDevice gpu, in GemmArgs args)
    {
        bool rounds = args.ComputesIn(gpu) == ComputeType.BF16;
        bool wanted = args.B.DType switch
        {
            DType.F32 => !rounds && !gpu.HasProductLibrary && args.M <= MostWideRows,
            // Rounded activations make it a product of one type, which the library and the tensor cores read as it is stored.
            DType.BF16 => !rounds && args.M <= MostRows,
            _ => args.M <= MostRows,
        };
        long codes = args.B.Scales.IsPresent ? args.B.Scales.Block : 8;
        return wanted && !args.TransA && args.TransB && args.Batches == 1 && args.A.DType == DType.F32
            && ((args.A.Address | args.B.Address) & 15) == 0 && args.K % 8 == 0 && args.StepA % 4 == 0 && args.StepB % 8 == 0 && codes % 8 == 0;
    }

    public static void Run(IlgpuDevice gpu, in GemmArgs args)
    {
        switch (args.B.DType)
        {
            case DType.F32: Run<F32Octet>(gpu, args); break;
            case DType.BF16: Run<BF16Octet>(gpu, args); break;
            case DType.F16: Run<F16Octet>(gpu, args); break;
            case DType.I8: Run<I8Octet>(gpu, args); break;
            default: Run<U4Octet>(gpu, args); break;
        }
    }

    private static void Run<TOctet>(IlgpuDevice gpu, in GemmArgs args)
        where TOctet : struct, IWeightOctet
    {
        Tensor b = args.B;
        BlockScales scales = b.Scales;
        var arguments = new FewRowsArgs
        {
            A = gpu.View<float>(args.A),
            C = gpu.View<float>(args.C),
            Wide = b.DType == DType.F32 ? gpu.View<float>(b) : default,
            Narrow = b.DType is DType.BF16 or DType.F16 ? gpu.View<ushort>(b) : default,
            Codes = scales.IsPresent ? gpu.Window<byte>(b.Address, b.DType.ByteLength(b.Elements)) : default,
            Scales = gpu.Window<float>(scales.Address, scales.IsPresent ? args.N * scales.PerRow : 0),
            ZeroPoints = gpu.Window<byte>(scales.ZeroPoints, scales.ZeroPoints == 0 ? 0 : args.N * scales.ZeroPointBytesPerRow),
            M = args.M,
            N = args.N,
            Octets = args.K / 8,
            StepA = args.StepA,
            StepB = args.StepB,
            StepC = args.StepC,
            ScalesPerRow = scales.IsPresent ? scales.PerRow : 0,
            ZeroBytes = scales.ZeroPoints == 0 ? 0 : scales.ZeroPointBytesPerRow,
            Block = scales.IsPresent ? scales.Block : 1,
            Alpha = args.Alpha,
            Accumulate = args.Accumulate,
            Rounds = args.ComputesIn(gpu) == ComputeType.BF16,
        };
        int warps = gpu.Threads / gpu.WarpSize;
        gpu.Launch(
            new FewRowsKernel<TOctet> { P = arguments },
            new Index3D(gpu.Groups((args.N + (long)Columns * warps - 1) / (Columns * warps)), (args.M + Rows - 1) / Rows, 1), gpu.Threads);
    }
}
