// A frozen matrix laid out once as the micro-kernel walks it, for products of few rows, where packing at every call costs as much as multiplying.
// Deliberately not: large matrices (the copy is f32 and as large as the matrix), bf16 products, other devices.
using System.Runtime.Intrinsics;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>W of y = x W^T, packed; W may be of any stored type, the copy is f32.</summary>
/// <remarks>Numerics: the same bits as <see cref="Gemm"/> in f32, whatever the number of rows or threads: the same micro-kernels over the same blocks of k.</remarks>
public sealed unsafe class PackedMatrix : IDisposable
{
    // Columns of C that one piece of work does: enough work to hand over, few enough that threads share a narrow layer.
    private const double PieceFlops = 100_000;

    private readonly CpuDevice _device;
    private readonly DeviceBuffer _panels;
    private readonly int _outer;
    private readonly int _inner;

    /// <summary>Packs a matrix.</summary>
    /// <param name="device">Does the work.</param>
    /// <param name="w">[outer, inner], f32, bf16, f16, i8 or u4 with scales; not needed any more after this.</param>
    /// <param name="outer">Rows of W, 1 or more.</param>
    /// <param name="inner">Columns of W, 1 or more.</param>
    /// <exception cref="ArgumentException">The matrix is not as large as that, or of another device.</exception>
    /// <exception cref="InsufficientMemoryException">The machine has no room for the copy.</exception>
    public PackedMatrix(CpuDevice device, Tensor w, int outer, int inner)
    {
        ArgumentNullException.ThrowIfNull(device);
        (_device, _outer, _inner) = (device, outer, inner);
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
    public void Multiply(Tensor x, Tensor y, int rows, bool accumulate = false, float alpha = 1)
    {
        const string Op = "PackedMatrix.Multiply";
        Require.Dim(Op, rows, nameof(rows));
        Require.Shape(Op, _device, x, nameof(x), DType.F32, "[rows, inner]", rows, _inner);
        Require.Shape(Op, _device, y, nameof(y), DType.F32, "[rows, outer]", rows, _outer);
        for (int first = 0; first < rows; first += GemmBlocking.MostRows)
        {
            int count = Math.Min(GemmBlocking.MostRows, rows - first);
            var operands = new Operands
            {
                X = (float*)x.Address + (long)first * _inner,
                Y = (float*)y.Address + (long)first * _outer,
                Panels = (float*)_panels.Tensor.Address,
                Blocks = _device.Scratch.BlockOf(0),
                PerWorker = _device.Scratch.FloatsPerWorker,
                Rows = count,
                Outer = _outer,
                Inner = _inner,
                Alpha = alpha,
                Accumulate = accumulate,
            };
            if (Vector512.IsHardwareAccelerated)
                Run<MicroKernel512>(operands);
            else if (Vector256.IsHardwareAccelerated)
                Run<MicroKernel256>(operands);
            else if (Vector128.IsHardwareAccelerated)
                Run<MicroKernel128>(operands);
            else
                Run<MicroKernelScalar>(operands);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _panels.Dispose();

    private static int Columns => Vector512.IsHardwareAccelerated ? MicroKernel512.Columns : Vector256.IsHardwareAccelerated ? MicroKernel256.Columns : Vector128.IsHardwareAccelerated ? MicroKernel128.Columns : MicroKernelScalar.Columns;

    private void Run<TKernel>(Operands operands)
        where TKernel : struct, IMicroKernel
    {
        int panels = GemmBlocking.Pieces(_outer, TKernel.Columns);
        double flops = 2.0 * Math.Max(operands.Rows, TKernel.EdgeRows) * _inner * TKernel.Columns;
        int perPiece = Math.Clamp((int)(PieceFlops / flops) + 1, 1, panels);
        if (flops * panels < GemmBlocking.SerialFlops)
            perPiece = panels;
        var body = new Body<TKernel>(operands, perPiece, panels);
        _device.Pool.Run(GemmBlocking.Pieces(panels, perPiece), ref body);
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

    private struct Operands
    {
        public float* X, Y, Panels, Blocks;
        public long PerWorker;
        public int Rows, Outer, Inner;
        public float Alpha;
        public bool Accumulate;
    }

    private readonly struct Body<TKernel>(Operands o, int perPiece, int panels) : IParallelBody
        where TKernel : struct, IMicroKernel
    {
        private readonly Operands _o = o;

        public void Invoke(int task, int worker)
        {
            float* a = _o.Blocks + worker * _o.PerWorker;
            int end = Math.Min(panels, (task + 1) * perPiece);
            for (int k0 = 0; k0 < _o.Inner; k0 += GemmBlocking.Kc)
            {
                int kc = Math.Min(GemmBlocking.Kc, _o.Inner - k0);
                Ops.Panels.PackRows<TKernel, F32Source>(new F32Source(_o.X, _o.Inner), transposed: false, 0, _o.Rows, k0, kc, a);
                for (int panel = task * perPiece; panel < end; panel++)
                {
                    int n = panel * TKernel.Columns, columns = Math.Min(TKernel.Columns, _o.Outer - n);
                    Ops.Panels.Multiply<TKernel>(_o.Rows, columns, kc, a, kc, 0, _o.Panels + (long)n * _o.Inner + (long)k0 * Ops.Panels.Width<TKernel>(columns), _o.Y + n, _o.Outer, _o.Alpha, _o.Accumulate || k0 > 0);
                }
            }
        }
    }
}
