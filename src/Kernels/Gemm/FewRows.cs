// The product of a handful of rows with a frozen matrix: a decoder's step. Such a product is bound by reading the matrix once, so nothing is packed: the matrix is
// read in the order in which it is stored and expanded in registers. Deliberately not: transposed operands and batches (Gemm); gradients.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>C (= or +=) alpha A B^T for few rows of A: what <see cref="Gemm"/> computes, by other loops.</summary>
/// <remarks>
/// Numerics  f32 sums, fused multiply-add where the machine has it: each lane of the widest vector sums every so-many-th k ascending, the lanes are added, then what is left
///           of k: |error| &lt;= (K + 4) eps sum|a||b|. A row's bits depend on nothing but that row and B: not on how many rows stand beside it nor on the
///           threads. That is what makes a text in a batch the same bits as the text alone. They are the bits of the product with the expanded B.
///           <see cref="ComputeType.BF16"/> rounds both operands first, as in Gemm; stored bf16 is taken as it is, subnormals too.
/// Speed     T5 base's decoder (124 M weights), its 109 products one after another on two Zen 5 cores that read 36 GB/s, ms for 1 / 8 / 32 / 96 rows: f32 14 / 15 / 36 / 80, packed by Gemm 25 / 26 / 37 / 81;
///           bf16 8 / 8 / 25 / 67 against 20 / 22 / 33 / 73. So steps take this kernel whatever their rows: it is never the slower one by more than a tenth, and one kernel
///           for every number of rows is what keeps a text's bits its own.
/// </remarks>
public static unsafe class FewRows
{
    // Of B, in one piece of work: some 20 microseconds from memory, ten times the cost of handing a piece over.
    private const long PieceBytes = 256 * 1024;
    private const string Purpose = "working memory of a product with few rows";

    /// <summary>Computes the product; allocates nothing once it was run with as many rows.</summary>
    /// <param name="device">Holds the operands and does the work.</param>
    /// <param name="args">Operands and dimensions: A f32 as it is, B transposed, one product.</param>
    /// <exception cref="ArgumentException">Dimensions, strides or element types do not fit.</exception>
    /// <exception cref="InsufficientMemoryException">The machine has no room for the rounded rows.</exception>
    /// <exception cref="InvalidOperationException">Called from inside another op's parallel body.</exception>
    public static void Run(CpuDevice device, in GemmArgs args)
    {
        ArgumentNullException.ThrowIfNull(device);
        args.Validate(device);
        if (args.TransA || !args.TransB || args.Batches != 1 || args.A.DType != DType.F32)
            throw new ArgumentException($"FewRows: found {(args.TransA ? "A^T" : "A")} {(args.TransB ? "B^T" : "B")}, A {args.A.DType.Name()}, {args.Batches} batches; expected A B^T, f32 and one product. Use Gemm.", nameof(args));
        if (device.Pool.IsInsideBody)
            throw new InvalidOperationException("FewRows: called from inside a parallel body of the same device, whose working memory it needs. Use Gemm there.");
        using OpScope trace = OpTrace.Enter(args);
        if (Vector512.IsHardwareAccelerated)
            RunWith<F32x16>(device, args);
        else if (Vector256.IsHardwareAccelerated)
            RunWith<F32x8>(device, args);
        else if (Vector128.IsHardwareAccelerated)
            RunWith<F32x4>(device, args);
        else
            RunWith<F32x1>(device, args);
    }

    /// <summary>The product at a named width, validated arguments; tests compare them all on one machine.</summary>
    internal static void RunWith<V>(CpuDevice device, in GemmArgs args)
        where V : unmanaged, ISimd<V> => StoredB.Choose(args, new ExecuteWith<V>(device, args));

    private readonly struct ExecuteWith<V>(CpuDevice device, GemmArgs args) : IWithStoredB
        where V : unmanaged, ISimd<V>
    {
        public void Run<TSource>(TSource b)
            where TSource : unmanaged, IPackSource<TSource>
        {
            bool rounds = args.ComputesIn(device) == ComputeType.BF16;
            // What takes many instructions to expand is expanded once for all rows; what is to be rounded, too.
            bool expands = args.B.DType is DType.F16 or DType.U4 ? rounds || args.M > FewRowsTile.MostRows : rounds && args.B.DType != DType.BF16;
            long panel = expands ? (long)FewRowsTile.Columns * args.K : 0, rows = rounds ? (long)args.M * args.K : 0;
            lock (device.Pool.Gate)
            {
                long perWorker = 0;
                float* memory = panel + rows > 0 ? device.Memory.Take(panel + rows, Purpose, out perWorker) : null;
                var operands = new Operands
                {
                    X = (float*)args.A.Address,
                    StepX = args.StepA,
                    Y = (float*)args.C.Address,
                    StepY = args.StepC,
                    Rows = args.M,
                    N = args.N,
                    K = args.K,
                    Alpha = args.Alpha,
                    Accumulate = args.Accumulate,
                    Expanded = expands ? memory : null,
                    PerWorker = perWorker,
                    Rounds = rounds,
                };
                if (rounds)
                    operands.Round(memory + panel);
                int panels = GemmBlocking.Pieces(args.N, FewRowsTile.Columns);
                long panelBytes = args.B.DType.ByteLength((long)FewRowsTile.Columns * args.K);
                int perPiece = args.Flops < GemmBlocking.SerialFlops ? panels : (int)Math.Clamp(PieceBytes / panelBytes, 1, GemmBlocking.Pieces(panels, GemmBlocking.PiecesPerWorker * device.Pool.Workers));
                var body = new Body<V, TSource>(operands, b, perPiece * FewRowsTile.Columns);
                device.Pool.Run(GemmBlocking.Pieces(panels, perPiece), ref body);
            }
        }
    }

    private struct Operands
    {
        public float* X, Y, Expanded;
        public long StepX, StepY, PerWorker;
        public int Rows, N, K;
        public float Alpha;
        public bool Accumulate, Rounds;

        public void Round(float* to)
        {
            for (int r = 0; r < Rows; r++)
                new ReadOnlySpan<float>(X + r * StepX, K).CopyTo(new Span<float>(to + (long)r * K, K));
            BF16Bits.ToOperandInPlace(to, (long)Rows * K);
            X = to;
            StepX = K;
        }
    }

    private readonly struct Body<V, TSource>(Operands operands, TSource w, int columns) : IParallelBody
        where V : unmanaged, ISimd<V>
        where TSource : unmanaged, IPackSource<TSource>
    {
        private readonly Operands _o = operands;
        private readonly TSource _w = w;

        public void Invoke(int task, int worker)
        {
            int first = task * columns, end = (int)Math.Min(first + (long)columns, _o.N);
            float* expanded = _o.Expanded + worker * _o.PerWorker;
            for (int n = first; n < end; n += FewRowsTile.Columns)
            {
                TSource panel = _w.Row(n);
                int valid = Math.Min(FewRowsTile.Columns, _o.N - n);
                if (_o.Expanded == null)
                {
                    Multiply(panel, n, valid);
                    continue;
                }
                for (int j = 0; j < valid; j++)
                    FewRowsTile.Expand<V, TSource>(panel.Row(j), _o.K, expanded + (long)j * _o.K);
                if (_o.Rounds)
                    BF16Bits.ToOperandInPlace(expanded, (long)valid * _o.K);
                Multiply(new F32Source(expanded, _o.K), n, valid);
            }
        }

        private void Multiply<TPanel>(TPanel w, int n, int valid)
            where TPanel : unmanaged, IPackSource<TPanel>
        {
            if (valid < FewRowsTile.Columns || FewRowsTile.Whole<V>(_o.K) < _o.K)
            {
                Edge(w, n, valid);
                return;
            }
            var tile = new FewRowsTile { X = _o.X, StepX = _o.StepX, Rows = _o.Rows, K = _o.K, Y = _o.Y + n, StepY = _o.StepY, Alpha = _o.Alpha, Accumulate = _o.Accumulate };
            tile.Multiply<V, TPanel>(w, valid);
        }

        // Where columns or k are left over: by way of the stack.
        private void Edge<TPanel>(TPanel w, int n, int valid)
            where TPanel : unmanaged, IPackSource<TPanel>
        {
            float* sums = stackalloc float[FewRowsTile.MostRows * FewRowsTile.Columns];
            for (int r = 0; r < _o.Rows; r += FewRowsTile.MostRows)
            {
                int rows = Math.Min(FewRowsTile.MostRows, _o.Rows - r);
                var tile = new FewRowsTile { X = _o.X + r * _o.StepX, StepX = _o.StepX, Rows = rows, K = _o.K, Y = sums, StepY = FewRowsTile.Columns, Alpha = 1, Accumulate = false };
                tile.Multiply<V, TPanel>(w, valid);
                for (int i = 0; i < rows; i++)
                {
                    float* x = tile.X + i * _o.StepX, y = _o.Y + (r + i) * _o.StepY + n;
                    for (int j = 0; j < valid; j++)
                    {
                        F32x1 sum = F32x1.Load(sums + i * FewRowsTile.Columns + j);
                        for (int k = FewRowsTile.Whole<V>(_o.K); k < _o.K; k++)
                            sum = F32x1.MultiplyAdd(F32x1.Load(x + k), w.Load<F32x1>(j, k), sum);
                        float product = sum.Value * _o.Alpha;
                        y[j] = _o.Accumulate ? y[j] + product : product;
                    }
                }
            }
        }
    }
}
