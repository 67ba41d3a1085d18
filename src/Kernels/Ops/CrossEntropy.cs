// The contract of the token loss; its CPU kernels are in CrossEntropy.Cpu.cs. The gradient overwrites the logits: at [B, T, V] they are
// the largest tensor of a step, and nobody needs them afterwards. Deliberately not the reduction over rows beyond RowWeights:
// who sums what is the trainer's business.
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>How a group's token losses become one number.</summary>
public enum LossReduction
{
    /// <summary>Mean over the group's tokens that are not ignored.</summary>
    Mean,

    /// <summary>Sum over them.</summary>
    Sum,
}

/// <summary>The parts of the token loss.</summary>
/// <param name="IgnoreIndex">Label of a row that does not count; HF and PyTorch: -100.</param>
/// <param name="LabelSmoothing">e: the target is 1 - e on the label plus e / V on every class; 0 to 1.</param>
/// <param name="ZLoss">z: adds z logsumexp^2 (T5X: 1e-4); 0 or more.</param>
public readonly record struct TokenLoss(int IgnoreIndex = -100, double LabelSmoothing = 0, double ZLoss = 0)
{
    /// <summary>Plain cross entropy; <c>default</c> would ignore label 0.</summary>
    public static TokenLoss Plain => new(-100);
}

/// <summary>Cross entropy of logits and labels with label smoothing and z-loss, and its gradient.</summary>
/// <remarks>
/// Forward   Z = log sum_v e^x_v;   loss = (1 - e)(Z - x_t) + e (Z - mean_v x_v) + z Z^2;   0 on an ignored row
/// Backward  dx_v = weight ((1 + 2 z Z) p_v - (1 - e)[v = t] - e / V),   p_v = e^(x_v - Z).   Derivation: docs/derivations/cross_entropy.md.
/// Shapes    logits, dlogits: [rows, V];  labels, weights, loss: [rows].  Nothing is kept.
/// Numerics  running maximum subtracted, sums and loss in double; two passes over the logits. Error bound: see CrossEntropyTests.
/// Source    PyTorch CrossEntropyLoss (its label_smoothing, also fairseq's label_smoothed_nll_loss before 0.10, which IPT uses);
///           z-loss: T5X losses.py, Shazeer &amp; Stern 2018.
/// </remarks>
public static partial class CrossEntropy
{
    /// <summary>The loss of each row; the logits stay.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="logits">f32 [rows, V].</param>
    /// <param name="labels">i32 [rows], 0 to V - 1 or the ignored index.</param>
    /// <param name="loss">f64 [rows], overwritten; unweighted.</param>
    /// <param name="rows">B * T, 0 or more.</param>
    /// <param name="V">vocab_size.</param>
    /// <param name="options">Ignored index, smoothing, z-loss.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a label is no class.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor logits, Tensor labels, Tensor loss, long rows, long V, TokenLoss options)
    {
        const string Op = "CrossEntropy.Forward";
        RequireShapes(Op, device, logits, labels, loss, rows, V, options);
        using OpScope trace = OpTrace.Enter(Op, rows, V);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Run(Op, cpu, logits, labels, default, loss, rows, V, options); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(Op, gpu, logits, labels, default, loss, rows, V, options); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>The loss of each row and, over the logits, the gradient of sum_row weight loss.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="logits">f32 [rows, V]; overwritten by dlogits, zero on ignored rows.</param>
    /// <param name="labels">i32 [rows], 0 to V - 1 or the ignored index.</param>
    /// <param name="weights">f64 [rows], what each row counts in the step's loss; see <see cref="RowWeights"/>.</param>
    /// <param name="loss">f64 [rows], overwritten; unweighted.</param>
    /// <param name="rows">B * T, 0 or more.</param>
    /// <param name="V">vocab_size.</param>
    /// <param name="options">Ignored index, smoothing, z-loss.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a label is no class.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void ForwardBackwardInPlace(ComputeDevice device, Tensor logits, Tensor labels, Tensor weights, Tensor loss, long rows, long V, TokenLoss options)
    {
        const string Op = "CrossEntropy.ForwardBackwardInPlace";
        RequireShapes(Op, device, logits, labels, loss, rows, V, options);
        Require.Shape(Op, device, weights, nameof(weights), DType.F64, "[rows]", rows);
        using OpScope trace = OpTrace.Enter(Op, rows, V);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Run(Op, cpu, logits, labels, weights, loss, rows, V, options); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Run(Op, gpu, logits, labels, weights, loss, rows, V, options); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>The rows' weights where every group of examples (a run, a task) has a loss of its own.</summary>
    /// <remarks>
    /// Mean: weight = scale / tokens(group); Sum: weight = scale. Ignored rows get 0. A group whose tokens are all ignored counts nothing.
    /// Differs from PyTorch: there that mean is NaN. With micro-batches, call this once on the whole batch's labels and slice.
    /// </remarks>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="labels">i32 [B, T].</param>
    /// <param name="groups">i32 [B], each example's group, 0 to <paramref name="groupCount"/> - 1; empty: all in group 0.</param>
    /// <param name="weights">f64 [B, T], overwritten.</param>
    /// <param name="tokens">i64 [groupCount], overwritten: tokens that count.</param>
    /// <param name="B">Examples.</param>
    /// <param name="T">Target positions.</param>
    /// <param name="groupCount">Groups, 1 or more.</param>
    /// <param name="ignoreIndex">Label of a row that does not count.</param>
    /// <param name="reduction">Mean or sum.</param>
    /// <param name="scale">A factor on every weight, 1 normally.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a group is out of range.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void RowWeights(ComputeDevice device, Tensor labels, Tensor groups, Tensor weights, Tensor tokens, long B, long T, long groupCount, int ignoreIndex, LossReduction reduction, double scale)
    {
        const string Op = "CrossEntropy.RowWeights";
        RequireGroups(Op, device, groups, B, T, groupCount);
        Require.Shape(Op, device, labels, nameof(labels), DType.I32, "[B, T]", B, T);
        Require.Shape(Op, device, weights, nameof(weights), DType.F64, "[B, T]", B, T);
        Require.Shape(Op, device, tokens, nameof(tokens), DType.I64, "[groupCount]", groupCount);
        using OpScope trace = OpTrace.Enter(Op, B, T);
        switch (device)
        {
            case CpuDevice: Cpu.RowWeights(Op, labels, groups, weights, tokens, B, T, groupCount, ignoreIndex, reduction, scale); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.RowWeights(Op, gpu, labels, groups, weights, tokens, B, T, groupCount, ignoreIndex, reduction, scale); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>Each group's loss: the sum of weight times loss over its rows, in row order.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="loss">f64 [B, T].</param>
    /// <param name="weights">f64 [B, T].</param>
    /// <param name="groups">i32 [B]; empty: all in group 0.</param>
    /// <param name="groupLoss">f64 [groupCount], overwritten.</param>
    /// <param name="B">Examples.</param>
    /// <param name="T">Target positions.</param>
    /// <param name="groupCount">Groups, 1 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a group is out of range.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void GroupLoss(ComputeDevice device, Tensor loss, Tensor weights, Tensor groups, Tensor groupLoss, long B, long T, long groupCount)
    {
        const string Op = "CrossEntropy.GroupLoss";
        RequireGroups(Op, device, groups, B, T, groupCount);
        Require.Shape(Op, device, loss, nameof(loss), DType.F64, "[B, T]", B, T);
        Require.Shape(Op, device, weights, nameof(weights), DType.F64, "[B, T]", B, T);
        Require.Shape(Op, device, groupLoss, nameof(groupLoss), DType.F64, "[groupCount]", groupCount);
        using OpScope trace = OpTrace.Enter(Op, B, T);
        switch (device)
        {
            case CpuDevice: Cpu.GroupLoss(Op, loss, weights, groups, groupLoss, B, T, groupCount); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.GroupLoss(Op, gpu, loss, weights, groups, groupLoss, B, T, groupCount); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void RequireShapes(string op, ComputeDevice device, Tensor logits, Tensor labels, Tensor loss, long rows, long V, TokenLoss options)
    {
        Require.Dim(op, rows, nameof(rows), 0);
        Require.Dim(op, V, nameof(V));
        Require.Range(op, options.LabelSmoothing, "options.LabelSmoothing", 0, 1);
        Require.Range(op, options.ZLoss, "options.ZLoss", 0, double.MaxValue);
        Require.Shape(op, device, logits, nameof(logits), DType.F32, "[rows, V]", rows, V);
        Require.Shape(op, device, labels, nameof(labels), DType.I32, "[rows]", rows);
        Require.Shape(op, device, loss, nameof(loss), DType.F64, "[rows]", rows);
    }

    private static void RequireGroups(string op, ComputeDevice device, Tensor groups, long B, long T, long groupCount)
    {
        Require.Dim(op, B, nameof(B), 0);
        Require.Dim(op, T, nameof(T), 0);
        Require.Dim(op, groupCount, nameof(groupCount));
        if (!groups.IsEmpty)
            Require.Shape(op, device, groups, nameof(groups), DType.I32, "[B]", B);
    }
}
