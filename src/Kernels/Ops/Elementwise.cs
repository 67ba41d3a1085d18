// Ops on element i alone: scaling, addition, copies, tanh. Deliberately without broadcasting: what needs a row has its own op.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
#if ILGPU
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Ops;

/// <summary>Elementwise arithmetic without saved tensors. All tensors are f32 [elements].</summary>
public static partial class Elementwise
{
    /// <summary>y = alpha x.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; may be <paramref name="x"/>.</param>
    /// <param name="elements">0 or more.</param>
    /// <param name="alpha">The factor.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Scale(ComputeDevice device, Tensor x, Tensor y, long elements, float alpha)
    {
        Pair("Elementwise.Scale", device, x, y, elements);
        using OpScope trace = OpTrace.Enter("Elementwise.Scale", elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Scale(cpu, x, y, alpha); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<ScaleElement>(gpu, elements, x, out0: y, numbers: new ElementNumbers { N0 = alpha }); break;
#endif
            default: throw Require.NoKernel("Elementwise.Scale", device);
        }
    }

    /// <summary>y = y + alpha x.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], added to.</param>
    /// <param name="elements">0 or more.</param>
    /// <param name="alpha">The factor.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Axpy(ComputeDevice device, Tensor x, Tensor y, long elements, float alpha)
    {
        Pair("Elementwise.Axpy", device, x, y, elements);
        using OpScope trace = OpTrace.Enter("Elementwise.Axpy", elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Axpy(cpu, x, y, alpha); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<AxpyElement>(gpu, elements, x, y, out0: y, numbers: new ElementNumbers { N0 = alpha }); break;
#endif
            default: throw Require.NoKernel("Elementwise.Axpy", device);
        }
    }

    /// <summary>y = x.</summary>
    /// <param name="device">Where the tensors lie.</param>
    /// <param name="x">f32 [elements].</param>
    /// <param name="y">f32 [elements], overwritten; the same memory or apart, not overlapping.</param>
    /// <param name="elements">0 or more.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Copy(ComputeDevice device, Tensor x, Tensor y, long elements) => Scale(device, x, y, elements, 1);

    /// <summary>y = value.</summary>
    /// <param name="device">Where the tensor lies.</param>
    /// <param name="y">f32 [elements], overwritten.</param>
    /// <param name="elements">0 or more.</param>
    /// <param name="value">What every element becomes.</param>
    /// <exception cref="ArgumentException">A tensor has another type, size or device.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for this op.</exception>
    public static void Fill(ComputeDevice device, Tensor y, long elements, float value)
    {
        Require.Shape("Elementwise.Fill", device, y, nameof(y), DType.F32, "[elements]", elements);
        using OpScope trace = OpTrace.Enter("Elementwise.Fill", elements);
        switch (device)
        {
            case CpuDevice cpu: Cpu.Fill(cpu, y, value); break;
#if ILGPU
            case IlgpuDevice gpu: Elements.Run<FillElement>(gpu, elements, out0: y, numbers: new ElementNumbers { N0 = value }); break;
#endif
            default: throw Require.NoKernel("Elementwise.Fill", device);
        }
    }

    private static void Pair(string op, ComputeDevice device, Tensor x, Tensor y, long elements)
    {
        Require.Shape(op, device, x, nameof(x), DType.F32, "[elements]", elements);
        Require.Shape(op, device, y, nameof(y), DType.F32, "[elements]", elements);
    }

    private static unsafe class Cpu
    {
        public static void Scale(CpuDevice cpu, Tensor x, Tensor y, float alpha) =>
            CpuRows.RunElements(cpu, x.Elements, new ScaleKernel { X = (float*)x.Address, Y = (float*)y.Address, Alpha = alpha });

        public static void Axpy(CpuDevice cpu, Tensor x, Tensor y, float alpha) =>
            CpuRows.RunElements(cpu, x.Elements, new AxpyKernel { X = (float*)x.Address, Y = (float*)y.Address, Alpha = alpha });

        public static void Fill(CpuDevice cpu, Tensor y, float value) =>
            CpuRows.RunElements(cpu, y.Elements, new FillKernel { Y = (float*)y.Address, Value = value });

        private struct ScaleKernel : IElementKernel
        {
            public float* X, Y;
            public float Alpha;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V> => (V.Load(X + i) * V.Broadcast(Alpha)).Store(Y + i);
        }

        private struct AxpyKernel : IElementKernel
        {
            public float* X, Y;
            public float Alpha;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V> => V.MultiplyAdd(V.Load(X + i), V.Broadcast(Alpha), V.Load(Y + i)).Store(Y + i);
        }

        private struct FillKernel : IElementKernel
        {
            public float* Y;
            public float Value;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long i)
                where V : unmanaged, ISimd<V> => V.Broadcast(Value).Store(Y + i);
        }
    }
}
