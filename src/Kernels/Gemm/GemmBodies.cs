// The loops around the micro-kernel, as pieces of work for the pool. What is cut where is decided in Gemm.cs.
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>The operands as pointers; B through its format.</summary>
internal readonly unsafe struct GemmProblem<TSource>(CpuDevice cpu, in GemmArgs args, TSource b)
    where TSource : unmanaged, IPackSource<TSource>
{
    public readonly int M = args.M, N = args.N, K = args.K;
    public readonly bool Accumulate = args.Accumulate;
    public readonly float Alpha = args.Alpha;
    public readonly float* SharedB = cpu.Scratch.SharedB;
    private readonly float* _blocks = cpu.Scratch.BlockOf(0);
    private readonly float* _panels = cpu.Scratch.PanelOf(0);
    private readonly long _perWorker = cpu.Scratch.FloatsPerWorker;
    private readonly TSource _b = b;
    private readonly nint _a = args.A.Address;
    private readonly bool _halfA = args.A.DType == DType.BF16;
    private readonly bool _rounds = args.ComputesIn(cpu) == ComputeType.BF16;
    private readonly float* _c = (float*)args.C.Address;
    private readonly long _stepA = args.StepA, _stepC = args.StepC;
    private readonly bool _transA = args.TransA, _transB = args.TransB;
    private readonly BatchStride _strideA = args.StrideA, _strideB = args.StrideB, _strideC = args.StrideC;
    private readonly int _inner = args.InnerBatches;

    public float* BlockOf(int worker) => _blocks + worker * _perWorker;

    public float* PanelOf(int worker) => _panels + worker * _perWorker;

    /// <summary>Packs rows of A in panels.</summary>
    public void PackA<TKernel>(int batch, int m0, int rows, int k0, int kc, float* to)
        where TKernel : struct, IMicroKernel
    {
        long entry = Offset(_strideA, batch);
        if (_halfA)
            Panels.PackRows<TKernel, BF16Source>(new BF16Source((ushort*)_a + entry, _stepA), _transA, m0, rows, k0, kc, to);
        else
            Panels.PackRows<TKernel, F32Source>(new F32Source((float*)_a + entry, _stepA), _transA, m0, rows, k0, kc, to);
        if (_rounds)
            BF16Bits.ToOperandInPlace(to, (long)Panels.PaddedRows<TKernel>(rows) * kc);
    }

    /// <summary>Packs one panel of B; the last may be an edge panel.</summary>
    public void PackB<TKernel>(int batch, int n0, int columns, int k0, int kc, float* to)
        where TKernel : struct, IMicroKernel
    {
        Panels.PackColumns<TKernel, TSource>(_b.At(Offset(_strideB, batch)), _transB, n0, columns, k0, kc, to);
        if (_rounds)
            BF16Bits.ToOperandInPlace(to, (long)Panels.Width<TKernel>(columns) * kc);
    }

    /// <summary>All packed rows of A times one packed panel of B.</summary>
    public void Multiply<TKernel>(int batch, int m0, int rows, int n0, int columns, int k0, int kc, float* a, float* b)
        where TKernel : struct, IMicroKernel =>
        Panels.Multiply<TKernel>(rows, columns, kc, a, kc, 0, b, _c + Offset(_strideC, batch) + m0 * _stepC + n0, _stepC, Alpha, Accumulate || k0 > 0);

    private long Offset(BatchStride stride, int batch) => batch / _inner * stride.Outer + batch % _inner * stride.Inner;
}

/// <summary>Which block of B all threads are at, and how C's rows and the block's columns are shared out.</summary>
internal readonly record struct GemmBlock(int Batch, int N0, int Nc, int K0, int Kc, int Rows, int GroupColumns, int Groups);

/// <summary>One piece: one panel of the shared block of B.</summary>
internal readonly unsafe struct PackSharedB<TKernel, TSource>(GemmProblem<TSource> problem, GemmBlock block) : IParallelBody
    where TKernel : struct, IMicroKernel
    where TSource : unmanaged, IPackSource<TSource>
{
    private readonly GemmProblem<TSource> _problem = problem;
    private readonly GemmBlock _block = block;

    public void Invoke(int task, int worker)
    {
        int j = task * TKernel.Columns;
        _problem.PackB<TKernel>(_block.Batch, _block.N0 + j, Math.Min(TKernel.Columns, _block.Nc - j), _block.K0, _block.Kc, _problem.SharedB + (long)j * _block.Kc);
    }
}

/// <summary>One piece: a few rows of C times a group of the shared block's panels.</summary>
internal readonly unsafe struct MultiplySharedB<TKernel, TSource>(GemmProblem<TSource> problem, GemmBlock block) : IParallelBody
    where TKernel : struct, IMicroKernel
    where TSource : unmanaged, IPackSource<TSource>
{
    private readonly GemmProblem<TSource> _problem = problem;
    private readonly GemmBlock _block = block;

    public void Invoke(int task, int worker)
    {
        int m0 = task / _block.Groups * _block.Rows;
        int rows = Math.Min(_block.Rows, _problem.M - m0);
        int first = task % _block.Groups * _block.GroupColumns;
        int end = Math.Min(first + _block.GroupColumns, _block.Nc);
        float* a = _problem.BlockOf(worker);
        _problem.PackA<TKernel>(_block.Batch, m0, rows, _block.K0, _block.Kc, a);
        for (int j = first; j < end; j += TKernel.Columns)
        {
            int columns = Math.Min(TKernel.Columns, end - j);
            _problem.Multiply<TKernel>(_block.Batch, m0, rows, _block.N0 + j, columns, _block.K0, _block.Kc, a, _problem.SharedB + (long)j * _block.Kc);
        }
    }
}

/// <summary>One piece: a rectangle of one batch entry's C over the whole of K, packing A's block and B's panels on this thread.</summary>
internal readonly unsafe struct MultiplyPrivately<TKernel, TSource>(GemmProblem<TSource> problem, GemmCut cut) : IParallelBody
    where TKernel : struct, IMicroKernel
    where TSource : unmanaged, IPackSource<TSource>
{
    private readonly GemmProblem<TSource> _problem = problem;
    private readonly GemmCut _cut = cut;

    public void Invoke(int task, int worker)
    {
        (int batch, int m0, int n0) = _cut.Corner(task);
        int rows = Math.Min(_cut.Rows, _problem.M - m0), end = Math.Min(n0 + _cut.Columns, _problem.N);
        float* a = _problem.BlockOf(worker);
        float* b = _problem.PanelOf(worker);
        for (int k0 = 0; k0 < _problem.K; k0 += GemmBlocking.Kc)
        {
            int kc = Math.Min(GemmBlocking.Kc, _problem.K - k0);
            _problem.PackA<TKernel>(batch, m0, rows, k0, kc, a);
            for (int n = n0; n < end; n += TKernel.Columns)
            {
                int columns = Math.Min(TKernel.Columns, end - n);
                _problem.PackB<TKernel>(batch, n, columns, k0, kc, b);
                _problem.Multiply<TKernel>(batch, m0, rows, n, columns, k0, kc, a, b);
            }
        }
    }
}
