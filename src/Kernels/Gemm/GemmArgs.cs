// What a matrix product is asked to do, and the check that it stays inside its operands. Deliberately not: how it is done (Gemm.cs).
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

/// <summary>Where an operand's batch entries begin: entry b at (b / inner count) * <see cref="Outer"/> + (b % inner count) * <see cref="Inner"/>.</summary>
/// <param name="Outer">Elements between groups of <see cref="GemmArgs.InnerBatches"/> entries, 0 or more.</param>
/// <param name="Inner">Elements between neighbours of a group, 0 or more.</param>
public readonly record struct BatchStride(long Outer, long Inner);

/// <summary>C[M, N] (= or +=) Alpha op(A)[M, K] op(B)[K, N], for each entry of a batch.</summary>
/// <remarks>
/// All matrices are row-major with a leading dimension (elements from stored row to stored row; 0 means tight). Two batch levels address attention
/// heads inside a [B, S, H, K] layout without copies: Batches = B*H, InnerBatches = H, leading dimension H*K, stride (S*H*K, K).
/// </remarks>
public readonly record struct GemmArgs
{
    /// <summary>A product of one batch entry, tight and plain, until set otherwise.</summary>
    public GemmArgs()
    {
    }

    /// <summary>F32 or BF16; stored [M, K], or [K, M] with <see cref="TransA"/>.</summary>
    public required Tensor A { get; init; }

    /// <summary>F32, BF16, F16, or I8 or U4 with scales (a single matrix); stored [K, N], or [N, K] with <see cref="TransB"/> (a checkpoint's linear weight, [out, in]).</summary>
    public required Tensor B { get; init; }

    /// <summary>F32 [M, N]; must not overlap A or B.</summary>
    public required Tensor C { get; init; }

    /// <summary>Rows of C, 1 or more.</summary>
    public required int M { get; init; }

    /// <summary>Columns of C, 1 or more.</summary>
    public required int N { get; init; }

    /// <summary>Length of the sums, 1 or more.</summary>
    public required int K { get; init; }

    /// <summary>A is stored transposed.</summary>
    public bool TransA { get; init; }

    /// <summary>B is stored transposed.</summary>
    public bool TransB { get; init; }

    /// <summary>Elements from stored row to stored row of A; 0: tight.</summary>
    public long LdA { get; init; }

    /// <summary>Elements from stored row to stored row of B; 0: tight.</summary>
    public long LdB { get; init; }

    /// <summary>Elements from row to row of C; 0: tight.</summary>
    public long LdC { get; init; }

    /// <summary>Add to C instead of overwriting it.</summary>
    public bool Accumulate { get; init; }

    /// <summary>Factor of the product.</summary>
    public float Alpha { get; init; } = 1;

    /// <summary>Products, 1 or more.</summary>
    public int Batches { get; init; } = 1;

    /// <summary>Batch entries of one group, 1 or more; divides <see cref="Batches"/>.</summary>
    public int InnerBatches { get; init; } = 1;

    /// <summary>Batch strides of A; zero shares A.</summary>
    public BatchStride StrideA { get; init; }

    /// <summary>Batch strides of B; zero shares B.</summary>
    public BatchStride StrideB { get; init; }

    /// <summary>Batch strides of C; entries must not overlap.</summary>
    public BatchStride StrideC { get; init; }

    /// <summary>Precision of the operands; null: what the device is set to (<see cref="ComputeDevice.Compute"/>).</summary>
    public ComputeType? Compute { get; init; }

    internal long StepA => LdA != 0 ? LdA : TransA ? M : K;

    internal long StepB => LdB != 0 ? LdB : TransB ? K : N;

    internal long StepC => LdC != 0 ? LdC : N;

    internal ComputeType ComputesIn(ComputeDevice device) => Compute ?? device.Compute;

    internal double Flops => 2.0 * M * N * K * Batches;

    internal long Offset(BatchStride stride, int batch) => batch / InnerBatches * stride.Outer + batch % InnerBatches * stride.Inner;

    /// <summary>Throws unless every element that will be touched lies inside its tensor.</summary>
    internal void Validate(ComputeDevice device)
    {
        if (M < 1 || N < 1 || K < 1)
            throw new ArgumentException($"Gemm: found {Describe()}, expected M, N and K of 1 or more.");
        if (Batches < 1 || InnerBatches < 1 || Batches % InnerBatches != 0)
            throw new ArgumentException($"Gemm: found {Batches} batches in groups of {InnerBatches}, expected 1 or more and whole groups.");
        Check(device, nameof(A), A, TransA ? K : M, TransA ? M : K, StepA, StrideA);
        Check(device, nameof(B), B, TransB ? N : K, TransB ? K : N, StepB, StrideB);
        Check(device, nameof(C), C, M, N, StepC, StrideC);
        if (A.DType is not (DType.F32 or DType.BF16) || C.DType != DType.F32)
            throw new ArgumentException($"Gemm: found A {A.DType.Name()} and C {C.DType.Name()}, expected f32 or bf16 for A and f32 for C.");
        if (B.DType is DType.I8 or DType.U4)
            RequireScales();
        else if (B.DType is not (DType.F32 or DType.BF16 or DType.F16))
            throw new ArgumentException($"Gemm: found B {B.DType.Name()}, expected f32, bf16, f16, i8 or u4.");
        if (Overlaps(new(StepC, M), new(StrideC.Inner, InnerBatches), new(StrideC.Outer, Batches / InnerBatches)))
            throw new ArgumentException($"Gemm: C's rows or batch entries overlap: {Describe()}, C row step {StepC}, batch strides ({StrideC.Outer}, {StrideC.Inner}).");
    }

    private void Check(ComputeDevice device, string name, Tensor tensor, long rows, long columns, long step, BatchStride stride)
    {
        if (!ReferenceEquals(tensor.Device, device))
            throw new ArgumentException($"Gemm: {name} lies on {tensor.Device?.Name ?? "no device"}, expected {device.Name}, the device it runs on.");
        if (step < columns || stride.Outer < 0 || stride.Inner < 0)
        {
            throw new ArgumentException(
                $"Gemm: {name} is stored [{rows}, {columns}] ({Describe()}), found a row step of {step} and batch strides ({stride.Outer}, {stride.Inner}); expected a step of {columns} or more and strides of 0 or more.");
        }
        long needed = checked((rows - 1) * step + columns + (Batches / InnerBatches - 1) * stride.Outer + (InnerBatches - 1) * stride.Inner);
        if (needed > tensor.Elements)
        {
            throw new ArgumentException(
                $"Gemm: {name} is stored [{rows}, {columns}] with row step {step} in {Batches} batches ({Describe()}) and needs {needed} elements, found {tensor.Elements}.");
        }
    }

    // A block never straddles two rows, two bytes or a group of 16 that packing asks for; a scale therefore belongs to what is read with it.
    private void RequireScales()
    {
        BlockScales s = B.Scales;
        if (!s.IsPresent || (B.DType == DType.U4) != (s.ZeroPoints != 0))
            throw new ArgumentException($"Gemm: found B {B.DType.Name()} {(s.IsPresent ? "with scales" : "without scales")}{(s.ZeroPoints != 0 ? " and zero points" : "")}, expected i8 with scales, or u4 with scales and zero points.");
        bool whole = s.RowLength >= 1 && (s.Block == s.RowLength || (s.Block >= 16 && long.IsPow2(s.Block) && s.RowLength % s.Block == 0));
        if (!whole || s.RowLength != StepB || s.RowLength != (TransB ? K : N) || (B.DType == DType.U4 && s.RowLength % 2 != 0) || StrideB != default)
            throw new ArgumentException($"Gemm: found B with scales for rows of {s.RowLength} in blocks of {s.Block} and a row step of {StepB} ({Describe()}); expected one tight matrix, blocks that are whole rows or a power of two of 16 or more that divides them, and even rows for u4.");
    }

    // Nested strides, narrowest first, must each clear what lies inside them.
    private bool Overlaps((long Stride, long Count) x, (long Stride, long Count) y, (long Stride, long Count) z)
    {
        if (x.Stride > y.Stride)
            (x, y) = (y, x);
        if (y.Stride > z.Stride)
            (y, z) = (z, y);
        if (x.Stride > y.Stride)
            (x, y) = (y, x);
        long extent = N;
        return Collides(x, ref extent) || Collides(y, ref extent) || Collides(z, ref extent);
    }

    private static bool Collides((long Stride, long Count) level, ref long extent)
    {
        if (level.Count == 1)
            return false;
        bool collides = level.Stride < extent;
        extent += level.Stride * (level.Count - 1);
        return collides;
    }

    private string Describe() => $"C[{M}, {N}] from {(TransA ? "A^T" : "A")}[{M}, {K}] {(TransB ? "B^T" : "B")}[{K}, {N}]";
}
