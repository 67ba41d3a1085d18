// The loops around the bf16 tiles, as pieces of work for the pool. What is cut where is decided in BF16Gemm.cs.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Cpu;

/// <summary>The operands, each through its format.</summary>
internal readonly unsafe struct BF16Problem<TA, TB>(CpuDevice cpu, in GemmArgs args, TA a, TB b)
    where TA : unmanaged, IPackSource<TA>
    where TB : unmanaged, IPackSource<TB>
{
    // Panels during which one stretch of each of a strip's rows is fetched ahead: a row a panel.
    private const int PanelsPerStretch = BF16Tile.Rows;

    public readonly int M = args.M, N = args.N, K = args.K;
    private readonly byte* _aBytes = (byte*)args.A.Address;
    private readonly int _aSize = args.A.DType == DType.BF16 ? sizeof(ushort) : sizeof(float);
    private readonly long _stepA = args.StepA;
    public readonly uint* SharedB = (uint*)cpu.Scratch.SharedB;
    private readonly uint* _blocks = (uint*)cpu.Scratch.BlockOf(0);
    private readonly uint* _panels = (uint*)cpu.Scratch.PanelOf(0);
    private readonly long _perWorker = cpu.Scratch.FloatsPerWorker;
    private readonly BF16Kernels.Entries _kernels = cpu.MachineCode.Functions;
    private readonly TA _a = a;
    private readonly TB _b = b;
    private readonly float* _c = (float*)args.C.Address;
    private readonly long _stepC = args.StepC;
    private readonly bool _transA = args.TransA, _transB = args.TransB, _accumulate = args.Accumulate;
    private readonly float _alpha = args.Alpha;
    private readonly BatchStride _strideA = args.StrideA, _strideB = args.StrideB, _strideC = args.StrideC;
    private readonly int _inner = args.InnerBatches;

    public uint* BlockOf(int worker) => _blocks + worker * _perWorker;

    public uint* PanelsOf(int worker) => _panels + worker * _perWorker;

    /// <summary>Packs rows of A, each at a multiple of the strip's step.</summary>
    public void PackA(int batch, int m0, int rows, int k0, int kc, uint* to)
    {
        const int Step = BF16Tile.StripStep / sizeof(uint);
        TA a = _a.At(Offset(_strideA, batch));
        if (_transA)
            BF16Packing.AcrossRows(a, k0, m0, rows, kc, to, Step, 1);
        else
            BF16Packing.AlongRows(a, m0, k0, rows, kc, to, Step, 1);
    }

    /// <summary>Packs columns of B in panels of 32, the last of 16 if that is enough; panel j is at 32 j pairs.</summary>
    public void PackB(int batch, int n0, int columns, int k0, int kc, uint* to)
    {
        TB b = _b.At(Offset(_strideB, batch));
        int pairs = (kc + 1) / 2;
        for (int j = 0; j < columns; j += BF16Tile.Columns)
        {
            int valid = Math.Min(BF16Tile.Columns, columns - j);
            int width = valid <= BF16Tile.EdgeColumns ? BF16Tile.EdgeColumns : BF16Tile.Columns;
            uint* panel = to + (long)j * pairs;
            if (_transB)
                BF16Packing.AlongRows(b, n0 + j, k0, valid, kc, panel, 1, width);
            else
                BF16Packing.AcrossRows(b, k0, n0 + j, valid, kc, panel, 1, width);
        }
    }

    /// <summary>Packs rows of A and multiplies them by all packed columns of B; strip by strip where A lies by rows, and the next strip is fetched meanwhile.</summary>
    public void PackAndMultiply(int batch, int m0, int rows, int n0, int columns, int k0, int kc, uint* a, uint* b)
    {
        if (_transA)
        {
            PackA(batch, m0, rows, k0, kc, a);
            Multiply(batch, m0, rows, n0, columns, k0, kc, a, b, null);
            return;
        }
        for (int i = 0; i < rows; i += BF16Tile.Rows)
        {
            int m = m0 + i, next = m + BF16Tile.Rows;
            PackA(batch, m, Math.Min(BF16Tile.Rows, rows - i), k0, kc, a);
            byte* ahead = next + BF16Tile.Rows <= M ? _aBytes + (Offset(_strideA, batch) + next * _stepA + k0) * _aSize : null;
            Multiply(batch, m, Math.Min(BF16Tile.Rows, rows - i), n0, columns, k0, kc, a, b, ahead);
        }
    }

    /// <summary>All packed rows of A times all packed columns of B, strip by strip.</summary>
    public void Multiply(int batch, int m0, int rows, int n0, int columns, int k0, int kc, uint* a, uint* b, byte* ahead)
    {
        // A last panel of 16 or fewer columns is another tile's.
        int rest = columns % BF16Tile.Columns;
        int narrow = rest <= BF16Tile.EdgeColumns ? rest : 0, wide = columns - narrow;
        int pairs = (kc + 1) / 2;
        // Longer stretches than a tile can fetch are fetched while the next panels pass; what is left over then is read when it is packed.
        int atOnce = ahead == null ? wide : PanelsPerStretch * BF16Tile.Columns;
        float* c = _c + Offset(_strideC, batch) + m0 * _stepC + n0;
        var call = new TileCall { StepC = _stepC * sizeof(float), Pairs = pairs, Alpha = _alpha, Accumulate = _accumulate || k0 > 0 ? 1u : 0u };
        for (int i = 0; i < rows;)
        {
            bool edge = rows - i < BF16Tile.Rows;
            int height = edge ? BF16Tile.EdgeRows : BF16Tile.Rows;
            uint* strip = a + (long)i * (BF16Tile.StripStep / sizeof(uint));
            call.Rows = Math.Min(height, rows - i);
            int fetched = 0;
            for (int j = 0; j < wide; j += atOnce)
            {
                bool fetches = ahead != null && fetched < kc * _aSize;
                call.Ahead = fetches ? ahead + fetched : (byte*)strip;
                call.StepAhead = fetches ? _stepA * _aSize : 0;
                fetched += pairs * sizeof(uint);
                int part = Math.Min(atOnce, wide - j);
                _kernels.Run(edge, false, &call, strip, b + (long)j * pairs, c + i * _stepC + j, 1, GemmBlocking.Pieces(part, BF16Tile.Columns), part % BF16Tile.Columns);
            }
            call.Ahead = (byte*)strip;
            call.StepAhead = 0;
            if (narrow > 0)
                _kernels.Run(edge, true, &call, strip, b + (long)wide * pairs, c + i * _stepC + wide, 1, 1, narrow);
            i += height;
        }
    }

    private long Offset(BatchStride stride, int batch) => batch / _inner * stride.Outer + batch % _inner * stride.Inner;
}

/// <summary>One piece: one panel of the shared block of B.</summary>
internal readonly unsafe struct BF16PackShared<TA, TB>(BF16Problem<TA, TB> problem, GemmBlock block) : IParallelBody
    where TA : unmanaged, IPackSource<TA>
    where TB : unmanaged, IPackSource<TB>
{
    private readonly BF16Problem<TA, TB> _problem = problem;
    private readonly GemmBlock _block = block;

    public void Invoke(int task, int worker)
    {
        int j = task * BF16Tile.Columns;
        uint* to = _problem.SharedB + (long)j * ((_block.Kc + 1) / 2);
        _problem.PackB(_block.Batch, _block.N0 + j, Math.Min(BF16Tile.Columns, _block.Nc - j), _block.K0, _block.Kc, to);
    }
}

/// <summary>One piece: a few rows of C times a group of the shared block's panels.</summary>
internal readonly unsafe struct BF16MultiplyShared<TA, TB>(BF16Problem<TA, TB> problem, GemmBlock block) : IParallelBody
    where TA : unmanaged, IPackSource<TA>
    where TB : unmanaged, IPackSource<TB>
{
    private readonly BF16Problem<TA, TB> _problem = problem;
    private readonly GemmBlock _block = block;

    public void Invoke(int task, int worker)
    {
        int m0 = task / _block.Groups * _block.Rows;
        int rows = Math.Min(_block.Rows, _problem.M - m0);
        int first = task % _block.Groups * _block.GroupColumns;
        int columns = Math.Min(_block.GroupColumns, _block.Nc - first);
        uint* b = _problem.SharedB + (long)first * ((_block.Kc + 1) / 2);
        _problem.PackAndMultiply(_block.Batch, m0, rows, _block.N0 + first, columns, _block.K0, _block.Kc, _problem.BlockOf(worker), b);
    }
}

/// <summary>One piece: a rectangle of one batch entry's C over the whole of K, packing A's block and B's panels on this thread.</summary>
internal readonly unsafe struct BF16MultiplyPrivately<TA, TB>(BF16Problem<TA, TB> problem, GemmCut cut) : IParallelBody
    where TA : unmanaged, IPackSource<TA>
    where TB : unmanaged, IPackSource<TB>
{
    private readonly BF16Problem<TA, TB> _problem = problem;
    private readonly GemmCut _cut = cut;

    public void Invoke(int task, int worker)
    {
        (int batch, int m0, int n0) = _cut.Corner(task);
        int rows = Math.Min(_cut.Rows, _problem.M - m0), end = Math.Min(n0 + _cut.Columns, _problem.N);
        uint* a = _problem.BlockOf(worker);
        uint* b = _problem.PanelsOf(worker);
        for (int k0 = 0; k0 < _problem.K; k0 += BF16Tile.Kc)
        {
            int kc = Math.Min(BF16Tile.Kc, _problem.K - k0);
            int atOnce = BF16Blocking.Columns(BF16Blocking.PanelPairs, (kc + 1) / 2);
            _problem.PackA(batch, m0, rows, k0, kc, a);
            for (int n = n0; n < end; n += atOnce)
            {
                int columns = Math.Min(atOnce, end - n);
                _problem.PackB(batch, n, columns, k0, kc, b);
                _problem.Multiply(batch, m0, rows, n, columns, k0, kc, a, b, null);
            }
        }
    }
}
