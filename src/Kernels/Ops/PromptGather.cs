// Prompt rows into the input embeddings, and their gradients back. One ragged table holds every prompt; a batch may mix them.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Gather of ragged prompts, one per example, and its transpose.</summary>
/// <remarks>
/// Forward   y[b, position_b + i] = prompts[first_b + i]   for i = 0 to length_b - 1; all other rows of y stay.
/// Backward  dprompts[first_b + i] = sum over the examples b that hold this row of dy[b, position_b + i].
/// Shapes    prompts, dprompts: [promptRows, D];  places: [B, 3] = (first, length, position) of each example;  y, dy: [B, S, D].
///           Packed: y, dy: [rows, D], the examples' rows one after another without padding; positions count from the batch's first row.
/// Numerics  Backward adds in the order of the examples, in float: the loop over prompt rows is outside, so that no two threads
///           add to one row and neither threads nor the other prompts of the batch change a bit.
/// </remarks>
public static partial class PromptGather
{
    /// <summary>Numbers per example in the places: first prompt row, length, position.</summary>
    public const int PlaceWidth = 3;

    /// <summary>Writes each example's prompt into its input embeddings.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="prompts">f32 [promptRows, D], all prompts one after another.</param>
    /// <param name="places">i32 [B, 3]: first prompt row, length (0 for none), position in the sequence.</param>
    /// <param name="y">f32 [B, S, D], overwritten at the prompt positions.</param>
    /// <param name="promptRows">Rows of the table, 1 or more.</param>
    /// <param name="B">Examples.</param>
    /// <param name="S">Positions per example.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a place leaves the table or the sequence.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Forward(ComputeDevice device, Tensor prompts, Tensor places, Tensor y, long promptRows, long B, long S, long D)
    {
        const string Op = "PromptGather.Forward";
        RequireShapes(Op, device, places, promptRows, B, S, D);
        Require.Shape(Op, device, prompts, nameof(prompts), DType.F32, "[promptRows, D]", promptRows, D);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[B, S, D]", B, S, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(Op, cpu, prompts, places, y, promptRows, B, S, S, D); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(Op, gpu, prompts, places, y, promptRows, B, S, S, D); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>Forward on a packed batch.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="prompts">f32 [promptRows, D], all prompts one after another.</param>
    /// <param name="places">i32 [B, 3]: first prompt row, length (0 for none), row in <paramref name="y"/>.</param>
    /// <param name="y">f32 [rows, D], overwritten at the prompt positions.</param>
    /// <param name="promptRows">Rows of the table, 1 or more.</param>
    /// <param name="B">Examples.</param>
    /// <param name="rows">Positions of all examples together.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a place leaves the table or the batch.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void ForwardPacked(ComputeDevice device, Tensor prompts, Tensor places, Tensor y, long promptRows, long B, long rows, long D)
    {
        const string Op = "PromptGather.ForwardPacked";
        RequireShapes(Op, device, places, promptRows, B, rows, D);
        Require.Shape(Op, device, prompts, nameof(prompts), DType.F32, "[promptRows, D]", promptRows, D);
        Require.Shape(Op, device, y, nameof(y), DType.F32, "[rows, D]", rows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Forward(Op, cpu, prompts, places, y, promptRows, B, 0, rows, D); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Forward(Op, gpu, prompts, places, y, promptRows, B, 0, rows, D); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    /// <summary>dprompts from dy; a row that no example holds becomes 0.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="places">i32 [B, 3], as in Forward, or with the positions of a dy that holds the prompts only.</param>
    /// <param name="dy">f32 [B, S, D].</param>
    /// <param name="dprompts">f32 [promptRows, D], overwritten.</param>
    /// <param name="promptRows">Rows of the table, 1 or more.</param>
    /// <param name="B">Examples.</param>
    /// <param name="S">Positions per example in dy.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a place leaves the table or the sequence.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Backward(ComputeDevice device, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long S, long D) =>
        Backward("PromptGather.Backward", device, places, dy, dprompts, promptRows, B, S, D, accumulate: false);

    /// <summary>Adds the gradient to dprompts: one more micro-batch.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="places">i32 [B, 3], as in Forward, or with the positions of a dy that holds the prompts only.</param>
    /// <param name="dy">f32 [B, S, D].</param>
    /// <param name="dprompts">f32 [promptRows, D], added to.</param>
    /// <param name="promptRows">Rows of the table, 1 or more.</param>
    /// <param name="B">Examples.</param>
    /// <param name="S">Positions per example in dy.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a place leaves the table or the sequence.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void BackwardAccumulate(ComputeDevice device, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long S, long D) =>
        Backward("PromptGather.BackwardAccumulate", device, places, dy, dprompts, promptRows, B, S, D, accumulate: true);

    /// <summary>Adds the gradient of a packed batch to dprompts.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="places">i32 [B, 3], as in ForwardPacked.</param>
    /// <param name="dy">f32 [rows, D].</param>
    /// <param name="dprompts">f32 [promptRows, D], added to.</param>
    /// <param name="promptRows">Rows of the table, 1 or more.</param>
    /// <param name="B">Examples.</param>
    /// <param name="rows">Positions of all examples together.</param>
    /// <param name="D">d_model.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device, or a place leaves the table or the batch.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void BackwardPackedAccumulate(ComputeDevice device, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long rows, long D)
    {
        const string Op = "PromptGather.BackwardPackedAccumulate";
        RequireShapes(Op, device, places, promptRows, B, rows, D);
        Require.Shape(Op, device, dy, nameof(dy), DType.F32, "[rows, D]", rows, D);
        Require.Shape(Op, device, dprompts, nameof(dprompts), DType.F32, "[promptRows, D]", promptRows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(Op, cpu, places, dy, dprompts, promptRows, B, 0, rows, D, accumulate: true); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(Op, gpu, places, dy, dprompts, promptRows, B, 0, rows, D, accumulate: true); break;
#endif
            default: throw Require.NoKernel(Op, device);
        }
    }

    private static void Backward(string op, ComputeDevice device, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long S, long D, bool accumulate)
    {
        RequireShapes(op, device, places, promptRows, B, S, D);
        Require.Shape(op, device, dy, nameof(dy), DType.F32, "[B, S, D]", B, S, D);
        Require.Shape(op, device, dprompts, nameof(dprompts), DType.F32, "[promptRows, D]", promptRows, D);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Backward(op, cpu, places, dy, dprompts, promptRows, B, S, S, D, accumulate); break;
#if ILGPU
            case IlgpuDevice gpu: Ilgpu.Backward(op, gpu, places, dy, dprompts, promptRows, B, S, S, D, accumulate); break;
#endif
            default: throw Require.NoKernel(op, device);
        }
    }

    private static void RequireShapes(string op, ComputeDevice device, Tensor places, long promptRows, long B, long S, long D)
    {
        Require.Dim(op, promptRows, nameof(promptRows));
        Require.Dim(op, B, nameof(B), 0);
        Require.Dim(op, S, nameof(S));
        Require.Dim(op, D, nameof(D));
        Require.Shape(op, device, places, nameof(places), DType.I32, "[B, 3]", B, PlaceWidth);
    }

    // stride: rows from one example to the next, 0 where positions count from the batch's first row; limit: where a position must end.
    private static unsafe class Cpu
    {
        public static void Forward(string op, CpuDevice cpu, Tensor prompts, Tensor places, Tensor y, long promptRows, long B, long stride, long limit, long D)
        {
            int* place = (int*)places.Address;
            RequirePlaces(op, place, promptRows, B, limit);
            // One thread: a copy of a few hundred kilobytes.
            for (long b = 0; b < B; b++, place += PlaceWidth)
            {
                long bytes = place[1] * D * sizeof(float);
                Buffer.MemoryCopy((float*)prompts.Address + place[0] * D, (float*)y.Address + (b * stride + place[2]) * D, bytes, bytes);
            }
        }

        public static void Backward(string op, CpuDevice cpu, Tensor places, Tensor dy, Tensor dprompts, long promptRows, long B, long stride, long limit, long D, bool accumulate)
        {
            RequirePlaces(op, (int*)places.Address, promptRows, B, limit);
            CpuRows.Run(cpu, promptRows, D, new Kernel
            {
                Places = (int*)places.Address,
                Dy = (float*)dy.Address,
                Dprompts = (float*)dprompts.Address,
                B = B,
                Stride = stride,
                D = D,
                Accumulate = accumulate,
            });
        }

        private static void RequirePlaces(string op, int* places, long promptRows, long B, long limit)
        {
            for (long b = 0; b < B; b++)
            {
                int* place = places + b * PlaceWidth;
                long first = place[0], length = place[1], position = place[2];
                if (first < 0 || length < 0 || position < 0 || first + length > promptRows || position + length > limit)
                    throw new ArgumentException($"{op}: places[{b}] is (first {first}, length {length}, position {position}), expected a range inside {promptRows} prompt rows and inside {limit} positions.", nameof(places));
            }
        }

        private struct Kernel : IRowKernel
        {
            public int* Places;
            public float* Dy, Dprompts;
            public long B, Stride, D;
            public bool Accumulate;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                for (long row = first; row < end; row++)
                {
                    float* target = Dprompts + row * D;
                    if (!Accumulate)
                        new Span<float>(target, checked((int)D)).Clear();
                    for (long b = 0; b < B; b++)
                    {
                        int* place = Places + b * PlaceWidth;
                        long i = row - place[0];
                        if (i >= 0 && i < place[1])
                            Add<V>(target, Dy + (b * Stride + place[2] + i) * D);
                    }
                }
            }

            [MethodImpl(Jit.Loop)]
            private readonly void Add<V>(float* target, float* source)
                where V : unmanaged, ISimd<V>
            {
                long i = 0;
                for (; i <= D - V.Lanes; i += V.Lanes)
                    (V.Load(target + i) + V.Load(source + i)).Store(target + i);
                for (; i < D; i++)
                    target[i] += source[i];
            }
        }
    }
}
