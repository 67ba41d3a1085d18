// The matrix product in f32 on ordinary cores: for any shape, any strides, any stored format, on any device. Deliberately simple: no prefetch of the next
// slice. Where there are tensor cores and the operands fit, Cuda/TensorGemm.cs is the fast one; where cuBLAS is, Cuda/CuBlas.cs.
using ILGPU;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>One group, one tile of C.</summary>
internal struct GemmKernel<TShape> : IGpuKernel<GemmKernel<TShape>>
    where TShape : struct, ITileShape
{
    public TileSource A, B;
    public ArrayView<float> C;
    public long LdC, OuterA, InnerA, OuterB, InnerB, OuterC, InnerC;
    public int M, N, Batches, InnerBatches;
    public float Alpha;
    public GpuFlag Accumulate;

    public static void Run(GemmKernel<TShape> k)
    {
        ArrayView<F4> sharedA = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Rows), sharedB = SharedMemory.Allocate<F4>(GpuTile.Depth * TShape.Columns);
        int row0 = Grid.IdxY * 4 * TShape.Rows, column0 = Grid.IdxX * 4 * TShape.Columns;
        int row = row0 + 4 * (Group.IdxX / TShape.Columns), column = column0 + 4 * (Group.IdxX % TShape.Columns);
        for (int batch = Grid.IdxZ; batch < k.Batches; batch += Grid.DimZ)
        {
            long outer = batch / k.InnerBatches, inner = batch % k.InnerBatches;
            TileSource a = k.A, b = k.B;
            a.Start = outer * k.OuterA + inner * k.InnerA;
            b.Start = outer * k.OuterB + inner * k.InnerB;
            Tile4 c = GpuTile.Product<TShape>(a, row0, b, column0, sharedA, sharedB);
            long start = outer * k.OuterC + inner * k.InnerC;
            Store(k, start, row, column, c.R0);
            Store(k, start, row + 1, column, c.R1);
            Store(k, start, row + 2, column, c.R2);
            Store(k, start, row + 3, column, c.R3);
        }
    }

    private static void Store(GemmKernel<TShape> k, long start, int row, int column, F4 c)
    {
        if (row >= k.M)
            return;
        long at = start + row * k.LdC + column;
        StoreOne(k, at, column, c.X);
        StoreOne(k, at + 1, column + 1, c.Y);
        StoreOne(k, at + 2, column + 2, c.Z);
        StoreOne(k, at + 3, column + 3, c.W);
    }

    private static void StoreOne(GemmKernel<TShape> k, long at, int column, float c)
    {
        if (column < k.N)
            k.C[at] = k.Accumulate ? k.C[at] + k.Alpha * c : k.Alpha * c;
    }
}

/// <summary>Launches <see cref="GemmKernel{TShape}"/>.</summary>
internal static class PlainGemm
{
    // CUDA's limit of a grid in y and z.
    private const int MaxGrid = 65535;

    public static void Run(IlgpuDevice gpu, in GemmArgs args)
    {
        if (gpu.Threads >= 256)
            Run<Tile64x64>(gpu, args);
        else
            Run<Tile8x16>(gpu, args);
    }

    private static void Run<TShape>(IlgpuDevice gpu, in GemmArgs args)
        where TShape : struct, ITileShape
    {
        bool rounds = args.ComputesIn(gpu) == ComputeType.BF16;
        TileSource a = Source(gpu, args.A, rounds), b = Source(gpu, args.B, rounds);
        (a.RowStep, a.ColumnStep) = args.TransA ? (1L, args.StepA) : (args.StepA, 1L);
        (a.Rows, a.Columns) = (args.M, args.K);
        (b.RowStep, b.ColumnStep) = args.TransB ? (args.StepB, 1L) : (1L, args.StepB);
        (b.Rows, b.Columns) = (args.N, args.K);
        if (args.B.Scales.IsPresent)
            AddScales(gpu, args, ref b);
        var kernel = new GemmKernel<TShape>
        {
            A = a,
            B = b,
            C = gpu.View<float>(args.C),
            LdC = args.StepC,
            OuterA = args.StrideA.Outer,
            InnerA = args.StrideA.Inner,
            OuterB = args.StrideB.Outer,
            InnerB = args.StrideB.Inner,
            OuterC = args.StrideC.Outer,
            InnerC = args.StrideC.Inner,
            M = args.M,
            N = args.N,
            Batches = args.Batches,
            InnerBatches = args.InnerBatches,
            Alpha = args.Alpha,
            Accumulate = args.Accumulate,
        };
        int rowTiles = (args.M + 4 * TShape.Rows - 1) / (4 * TShape.Rows), columnTiles = (args.N + 4 * TShape.Columns - 1) / (4 * TShape.Columns);
        if (rowTiles > MaxGrid)
            throw new ArgumentException($"Gemm: M is {args.M}, expected at most {4L * TShape.Rows * MaxGrid} on {gpu.Name}. Split the batch.");
        gpu.Launch(kernel, new Index3D(columnTiles, rowTiles, Math.Min(args.Batches, MaxGrid)), TShape.Rows * TShape.Columns);
    }

    private static TileSource Source(IlgpuDevice gpu, Tensor x, bool rounds) => x.DType switch
    {
        DType.F32 => new() { Wide = gpu.View<float>(x), Rounds = rounds },
        DType.BF16 => new() { Narrow = gpu.View<ushort>(x), Format = 1 },
        DType.F16 => new() { Narrow = gpu.View<ushort>(x), Format = 2, Rounds = rounds },
        _ => new() { Codes = gpu.Window<byte>(x.Address, x.DType.ByteLength(x.Elements)), Format = x.DType == DType.I8 ? 3 : 4, Rounds = rounds },
    };

    private static void AddScales(IlgpuDevice gpu, in GemmArgs args, ref TileSource b)
    {
        BlockScales scales = args.B.Scales;
        long storedRows = args.TransB ? args.N : args.K;
        b.Exchanged = !args.TransB;
        b.Scales = gpu.Window<float>(scales.Address, storedRows * scales.PerRow);
        b.ZeroPoints = gpu.Window<byte>(scales.ZeroPoints, scales.ZeroPoints == 0 ? 0 : storedRows * scales.ZeroPointBytesPerRow);
        b.ScalesPerRow = scales.PerRow;
        b.ZeroBytes = scales.ZeroPointBytesPerRow;
        b.Block = scales.Block;
        b.CodeBytes = args.B.DType.ByteLength(scales.RowLength);
    }
}
