// A frozen matrix laid out once as the micro-kernel walks it, for products of few rows, where packing at every call costs as much as multiplying.
// Deliberately not: large matrices (the copy is f32 and as large as the matrix), bf16 products, other devices.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>One of several products of the same rows.</summary>
/// <param name="W">The packed matrix.</param>
/// <param name="Y">f32 [rows, outer of <paramref name="W"/>], overwritten.</param>
public readonly record struct PackedProduct(PackedMatrix W, Tensor Y);

/// <summary>W of y = x W^T, packed; W may be of any stored type, the copy is f32.</summary>
/// <remarks>Threads of any CPU device may read it, several at once. Numerics: the same bits as <see cref="Gemm"/> in f32, whatever the number of rows or threads: the same micro-kernels over the same blocks of k.</remarks>
public sealed unsafe class PackedMatrix : IDisposable
{
    // Columns of C that one piece of work does: enough work to hand over, few enough that threads share a narrow layer.
    private const double PieceFlops = 100_000;

    /// <summary>Products of the same rows that one call takes.</summary>
    public const int MostProducts = 4;

    private readonly DeviceBuffer _panels;
    private readonly int _outer;
    private readonly int _inner;

    /// <summary>Packs a matrix.</summary>
    /// <param name="device">Packs, with its own memory checks; products are of the device of their rows.</param>
    /// <param name="w">[outer, inner], f32, bf16, f16, i8 or u4 with scales; not needed any more after this.</param>
    /// <param name="outer">Rows of W, 1 or more.</param>
    /// <param name="inner">Columns of W, 1 or more.</param>
    /// <exception cref="ArgumentException">The matrix is not as large as that, or of another device.</exception>
    /// <exception cref="InsufficientMemoryException">The machine has no room for the copy.</exception>
    public PackedMatrix(CpuDevice device, Tensor w, int outer, int inner)
    {
        ArgumentNullException.ThrowIfNull(device);
        (_outer, _inner) = (outer, inner);
        _panels = device.Allocate(DType.F32, Elements(outer, inner), "packed weights");
        // As Gemm checks what it is given.
        var args = new GemmArgs { A = _panels.Tensor, B = w, C = _panels.Tensor, M = 1, N = outer, K = inner, TransB = true };
        args.Validate(device);
        StoredB.Choose(args, new Pack(this));
    }

    /// <summary>Floats of the copy.</summary>
    /// <param name="outer">Rows of W.</param>
    /// <param name="inner">Columns of W.</param>
    /// <returns>As many as W has, its rows rounded up to a panel.</returns>
    public static long Elements(int outer, int inner) => (long)GemmBlocking.EvenPart(outer, 1, Columns) * inner;

    /// <summary>y = (or +=) alpha x W^T.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="y">f32 [rows, outer]; not <paramref name="x"/>.</param>
    /// <param name="rows">1 or more.</param>
    /// <param name="accumulate">Add to y.</param>
    /// <param name="alpha">Factor.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    public void Multiply(Tensor x, Tensor y, int rows, bool accumulate = false, float alpha = 1) => Multiply(x, [new PackedProduct(this, y)], rows, accumulate, alpha);

    /// <summary>The products of the same rows with several matrices, as one piece of work: queries, keys and values; both halves of a gate.</summary>
    /// <param name="x">f32 [rows, inner].</param>
    /// <param name="products">1 to <see cref="MostProducts"/>, of matrices with the same inner dimension; their results overlap neither each other nor <paramref name="x"/>.</param>
    /// <param name="rows">1 or more.</param>
    /// <exception cref="ArgumentException">A tensor or matrix has another type, size or device, or there are too many.</exception>
    public static void MultiplyAll(Tensor x, ReadOnlySpan<PackedProduct> products, int rows) => Multiply(x, products, rows, accumulate: false, alpha: 1);

    private static void Multiply(Tensor x, ReadOnlySpan<PackedProduct> products, int rows, bool accumulate, float alpha)
    {
        const string Op = "PackedMatrix.Multiply";
        if (products.Length is 0 or > MostProducts)
            throw new ArgumentException($"{Op}: found {products.Length} matrices, expected 1 to {MostProducts}.", nameof(products));
        // Any CPU device may read the panels: host memory is host memory, and what differs is whose threads work.
        if (x.Device is not CpuDevice device)
            throw new ArgumentException($"{Op}: x lies on device '{x.Device?.Name ?? "none"}', expected the CPU.", nameof(x));
        int inner = products[0].W._inner;
        Require.Dim(Op, rows, nameof(rows));
        Require.Shape(Op, device, x, nameof(x), DType.F32, "[rows, inner]", rows, inner);
        Target* targets = stackalloc Target[products.Length];
        int panels = 0;
        for (int i = 0; i < products.Length; i++)
        {
            (PackedMatrix w, Tensor y) = products[i];
            if (w._inner != inner)
                throw new ArgumentException($"{Op}: matrix {i} has {w._inner} columns, expected {inner} as matrix 0.", nameof(products));
            Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, outer]", rows, w._outer);
            targets[i] = new Target { Y = (float*)y.Address, Panels = (float*)w._panels.Tensor.Address, Outer = w._outer, FirstPanel = panels };
            panels += GemmBlocking.Pieces(w._outer, Columns);
        }
        byte* isPacked = stackalloc byte[device.Pool.Workers];
        for (int first = 0; first < rows; first += GemmBlocking.MostRows)
        {
            new Span<byte>(isPacked, device.Pool.Workers).Clear();
            var operands = new Operands
            {
                X = (float*)x.Address + (long)first * inner,
                Targets = targets,
                Products = products.Length,
                IsPacked = isPacked,
                Blocks = device.Scratch.BlockOf(0),
                PerWorker = device.Scratch.FloatsPerWorker,
                FirstRow = first,
                Rows = Math.Min(GemmBlocking.MostRows, rows - first),
                Inner = inner,
                Alpha = alpha,
                Accumulate = accumulate,
            };
            if (Vector512.IsHardwareAccelerated)
                Run<MicroKernel512>(device, operands, panels);
            else if (Vector256.IsHardwareAccelerated)
                Run<MicroKernel256>(device, operands, panels);
            else if (Vector128.IsHardwareAccelerated)
                Run<MicroKernel128>(device, operands, panels);
            else
                Run<MicroKernelScalar>(device, operands, panels);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _panels.Dispose();

    private static int Columns => Vector512.IsHardwareAccelerated ? MicroKernel512.Columns : Vector256.IsHardwareAccelerated ? MicroKernel256.Columns : Vector128.IsHardwareAccelerated ? MicroKernel128.Columns : MicroKernelScalar.Columns;

    private static void Run<TKernel>(CpuDevice device, Operands operands, int panels)
        where TKernel : struct, IMicroKernel
    {
        double flops = 2.0 * Math.Max(operands.Rows, TKernel.EdgeRows) * operands.Inner * TKernel.Columns;
        int perPiece = Math.Clamp((int)(PieceFlops / flops) + 1, 1, panels);
        if (flops * panels < GemmBlocking.SerialFlops || device.Pool.Width == 1)
            perPiece = panels;
        operands.IsWhole = (long)Ops.Panels.PaddedRows<TKernel>(operands.Rows) * operands.Inner <= GemmBlocking.BlockFloats;
        var body = new Body<TKernel>(operands, perPiece, panels);
        device.Pool.Run(GemmBlocking.Pieces(panels, perPiece), ref body);
    }

    // Panel after panel; inside a panel block of k after block of k.
    private void PackWith<TKernel, TSource>(TSource w)
        where TKernel : struct, IMicroKernel
        where TSource : unmanaged, IPackSource<TSource>
    {
        for (int n = 0; n < _outer; n += TKernel.Columns)
        {
            int columns = Math.Min(TKernel.Columns, _outer - n), width = Panels.Width<TKernel>(columns);
            for (int k0 = 0; k0 < _inner; k0 += GemmBlocking.Kc)
                Panels.PackColumns<TKernel, TSource>(w, transposed: true, n, columns, k0, Math.Min(GemmBlocking.Kc, _inner - k0), (float*)_panels.Tensor.Address + (long)n * _inner + (long)k0 * width);
        }
    }

    private readonly struct Pack(PackedMatrix matrix) : IWithStoredB
    {
        public void Run<TSource>(TSource b)
            where TSource : unmanaged, IPackSource<TSource>
        {
            if (Vector512.IsHardwareAccelerated)
                matrix.PackWith<MicroKernel512, TSource>(b);
            else if (Vector256.IsHardwareAccelerated)
                matrix.PackWith<MicroKernel256, TSource>(b);
            else if (Vector128.IsHardwareAccelerated)
                matrix.PackWith<MicroKernel128, TSource>(b);
            else
                matrix.PackWith<MicroKernelScalar, TSource>(b);
        }
    }

    // One product: whose panels follow those of the one before.
    private struct Target
    {
        public float* Y, Panels;
        public int Outer, FirstPanel;
    }

    private struct Operands
    {
        public float* X, Blocks;
        public Target* Targets;
        public byte* IsPacked;
        public long PerWorker;
        public int Products, FirstRow, Rows, Inner;
        public float Alpha;
        public bool Accumulate, IsWhole;
    }

    private readonly struct Body<TKernel>(Operands o, int perPiece, int panels) : IParallelBody
        where TKernel : struct, IMicroKernel
    {
        private readonly Operands _o = o;

        public void Invoke(int task, int worker)
        {
            float* a = _o.Blocks + worker * _o.PerWorker;
            int first = task * perPiece, end = Math.Min(panels, first + perPiece);
            if (!_o.IsWhole)
            {
                for (int k0 = 0; k0 < _o.Inner; k0 += GemmBlocking.Kc)
                {
                    Pack(k0, a);
                    for (int panel = first; panel < end; panel++)
                        Panel(panel, k0, a);
                }
                return;
            }
            // A thread packs the rows with its first piece; for a few rows that is as much work as a piece is.
            long padded = Ops.Panels.PaddedRows<TKernel>(_o.Rows);
            for (int k0 = 0; k0 < _o.Inner && _o.IsPacked[worker] == 0; k0 += GemmBlocking.Kc)
                Pack(k0, a + padded * k0);
            _o.IsPacked[worker] = 1;
            for (int panel = first; panel < end; panel++)
            {
                for (int k0 = 0; k0 < _o.Inner; k0 += GemmBlocking.Kc)
                    Panel(panel, k0, a + padded * k0);
            }
        }

        private void Pack(int k0, float* a) =>
            Ops.Panels.PackRows<TKernel, F32Source>(new F32Source(_o.X, _o.Inner), transposed: false, 0, _o.Rows, k0, Math.Min(GemmBlocking.Kc, _o.Inner - k0), a);

        private void Panel(int panel, int k0, float* a)
        {
            int product = 0;
            while (product + 1 < _o.Products && panel >= _o.Targets[product + 1].FirstPanel)
                product++;
            Target target = _o.Targets[product];
            int kc = Math.Min(GemmBlocking.Kc, _o.Inner - k0), n = (panel - target.FirstPanel) * TKernel.Columns, columns = Math.Min(TKernel.Columns, target.Outer - n);
            float* b = target.Panels + (long)n * _o.Inner + (long)k0 * Ops.Panels.Width<TKernel>(columns);
            Ops.Panels.Multiply<TKernel>(_o.Rows, columns, kc, a, kc, 0, b, target.Y + (long)_o.FirstRow * target.Outer + n, target.Outer, _o.Alpha, _o.Accumulate || k0 > 0);
        }
    }
}
