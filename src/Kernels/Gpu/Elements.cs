// Elementwise kernels: one loop for all ops on element i alone. Every input is read and every output written once, 16 bytes at a time where the
// addresses allow it, two such loads in flight per input and thread. Deliberately not the formulas: each op brings its own as a struct.
using ILGPU;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>An element's inputs.</summary>
internal struct ElementIn
{
    public float A, B, C, D;
}

/// <summary>An element's results.</summary>
internal struct ElementOut
{
    public float Y0, Y1, Y2;
}

/// <summary>Numbers that all elements share.</summary>
internal struct ElementNumbers
{
    public float N0, N1, N2, N3, N4, N5, N6, N7, N8;
}

/// <summary>A formula on up to four inputs with up to three results.</summary>
internal interface IElementOp
{
    static abstract int Inputs { get; }

    static abstract int Outputs { get; }

    static abstract ElementOut At(ElementIn x, ElementNumbers n);
}

/// <summary>The loop.</summary>
internal struct ElementKernel<TOp> : IGpuKernel<ElementKernel<TOp>>
    where TOp : struct, IElementOp
{
    public ArrayView<float> In0, In1, In2, In3, Out0, Out1, Out2;
    public ElementNumbers Numbers;
    public long Elements, Quads;

    public static void Run(ElementKernel<TOp> k)
    {
        long stride = (long)Grid.DimX * Group.DimX, first = (long)Grid.IdxX * Group.DimX + Group.IdxX, i = first;
        for (; i + stride < k.Quads; i += 2 * stride)
        {
            QuadIn near = Load(k, i), far = Load(k, i + stride);
            Store(k, i, near);
            Store(k, i + stride, far);
        }
        if (i < k.Quads)
            Store(k, i, Load(k, i));
        for (i = 4 * k.Quads + first; i < k.Elements; i += stride)
        {
            var x = default(ElementIn);
            if (TOp.Inputs > 0)
                x.A = k.In0[i];
            if (TOp.Inputs > 1)
                x.B = k.In1[i];
            if (TOp.Inputs > 2)
                x.C = k.In2[i];
            if (TOp.Inputs > 3)
                x.D = k.In3[i];
            ElementOut y = TOp.At(x, k.Numbers);
            k.Out0[i] = y.Y0;
            if (TOp.Outputs > 1)
                k.Out1[i] = y.Y1;
            if (TOp.Outputs > 2)
                k.Out2[i] = y.Y2;
        }
    }

    private static QuadIn Load(ElementKernel<TOp> k, long quad)
    {
        var x = default(QuadIn);
        if (TOp.Inputs > 0)
            x.A = k.In0.Cast<F4>()[quad];
        if (TOp.Inputs > 1)
            x.B = k.In1.Cast<F4>()[quad];
        if (TOp.Inputs > 2)
            x.C = k.In2.Cast<F4>()[quad];
        if (TOp.Inputs > 3)
            x.D = k.In3.Cast<F4>()[quad];
        return x;
    }

    private static void Store(ElementKernel<TOp> k, long quad, QuadIn x)
    {
        ElementOut y0 = TOp.At(new ElementIn { A = x.A.X, B = x.B.X, C = x.C.X, D = x.D.X }, k.Numbers);
        ElementOut y1 = TOp.At(new ElementIn { A = x.A.Y, B = x.B.Y, C = x.C.Y, D = x.D.Y }, k.Numbers);
        ElementOut y2 = TOp.At(new ElementIn { A = x.A.Z, B = x.B.Z, C = x.C.Z, D = x.D.Z }, k.Numbers);
        ElementOut y3 = TOp.At(new ElementIn { A = x.A.W, B = x.B.W, C = x.C.W, D = x.D.W }, k.Numbers);
        k.Out0.Cast<F4>()[quad] = new F4(y0.Y0, y1.Y0, y2.Y0, y3.Y0);
        if (TOp.Outputs > 1)
            k.Out1.Cast<F4>()[quad] = new F4(y0.Y1, y1.Y1, y2.Y1, y3.Y1);
        if (TOp.Outputs > 2)
            k.Out2.Cast<F4>()[quad] = new F4(y0.Y2, y1.Y2, y2.Y2, y3.Y2);
    }

    private struct QuadIn
    {
        public F4 A, B, C, D;
    }
}

/// <summary>Launches <see cref="ElementKernel{TOp}"/>.</summary>
internal static class Elements
{
    /// <summary>Tensors that an op lacks are left out.</summary>
    public static void Run<TOp>(
        IlgpuDevice gpu, long elements, Tensor in0 = default, Tensor in1 = default, Tensor in2 = default, Tensor in3 = default,
        Tensor out0 = default, Tensor out1 = default, Tensor out2 = default, ElementNumbers numbers = default)
        where TOp : struct, IElementOp
    {
        if (elements == 0)
            return;
        bool aligned = ((in0.Address | in1.Address | in2.Address | in3.Address | out0.Address | out1.Address | out2.Address) & 15) == 0;
        var kernel = new ElementKernel<TOp>
        {
            In0 = gpu.View<float>(in0),
            In1 = gpu.View<float>(in1),
            In2 = gpu.View<float>(in2),
            In3 = gpu.View<float>(in3),
            Out0 = gpu.View<float>(out0),
            Out1 = gpu.View<float>(out1),
            Out2 = gpu.View<float>(out2),
            Numbers = numbers,
            Elements = elements,
            Quads = aligned ? elements / 4 : 0,
        };
        // Two quads a thread.
        gpu.Launch(kernel, gpu.Groups((elements + 8L * gpu.Threads - 1) / (8L * gpu.Threads)), gpu.Threads);
    }
}

/// <summary>y = n0 x.</summary>
internal struct ScaleElement : IElementOp
{
    public static int Inputs => 1;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = x.A * n.N0 };
}

/// <summary>y = y + n0 x.</summary>
internal struct AxpyElement : IElementOp
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = x.A * n.N0 + x.B };
}

/// <summary>y = n0.</summary>
internal struct FillElement : IElementOp
{
    public static int Inputs => 0;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = n.N0 };
}

/// <summary>y = a + b.</summary>
internal struct AddElement : IElementOp
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = x.A + x.B };
}

/// <summary>y = tanh x.</summary>
internal struct TanhElement : IElementOp
{
    public static int Inputs => 1;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = VectorMath.Tanh(new GpuLane(x.A)).Value };
}

/// <summary>dx = dy (1 - y^2), as a product that does not cancel near 1.</summary>
internal struct TanhBackwardElement : IElementOp
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = x.B * ((1f - x.A) * (1f + x.A)) };
}

/// <summary>y = f(x).</summary>
internal struct ActivationElement<TActivation> : IElementOp
    where TActivation : unmanaged, IActivation
{
    public static int Inputs => 1;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = TActivation.Evaluate(new GpuLane(x.A), out _).Value };
}

/// <summary>dx = dy f'(x).</summary>
internal struct ActivationBackwardElement<TActivation> : IElementOp
    where TActivation : unmanaged, IActivation
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n)
    {
        TActivation.Evaluate(new GpuLane(x.A), out GpuLane derivative);
        return new() { Y0 = x.B * derivative.Value };
    }
}

/// <summary>y = f(h0) h1.</summary>
internal struct GateElement<TActivation> : IElementOp
    where TActivation : unmanaged, IActivation
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    public static ElementOut At(ElementIn x, ElementNumbers n) => new() { Y0 = TActivation.Evaluate(new GpuLane(x.A), out _).Value * x.B };
}

/// <summary>dh0 = dy h1 f'(h0), dh1 = dy f(h0), from h0, h1, dy.</summary>
internal struct GateBackwardElement<TActivation> : IElementOp
    where TActivation : unmanaged, IActivation
{
    public static int Inputs => 3;

    public static int Outputs => 2;

    public static ElementOut At(ElementIn x, ElementNumbers n)
    {
        float f = TActivation.Evaluate(new GpuLane(x.A), out GpuLane derivative).Value;
        return new() { Y0 = x.C * x.B * derivative.Value, Y1 = x.C * f };
    }
}

/// <summary>Launches an activation's kernels; the counterpart of CpuActivation.</summary>
internal static class GpuActivation<TActivation>
    where TActivation : unmanaged, IActivation
{
    public static void Forward(IlgpuDevice gpu, Tensor x, Tensor y) => Elements.Run<ActivationElement<TActivation>>(gpu, x.Elements, x, out0: y);

    public static void Backward(IlgpuDevice gpu, Tensor x, Tensor dy, Tensor dx) => Elements.Run<ActivationBackwardElement<TActivation>>(gpu, x.Elements, x, dy, out0: dx);

    public static void GatedForward(IlgpuDevice gpu, Tensor h0, Tensor h1, Tensor y) => Elements.Run<GateElement<TActivation>>(gpu, h0.Elements, h0, h1, out0: y);

    public static void GatedBackward(IlgpuDevice gpu, Tensor h0, Tensor h1, Tensor dy, Tensor dh0, Tensor dh1) =>
        Elements.Run<GateBackwardElement<TActivation>>(gpu, h0.Elements, h0, h1, dy, out0: dh0, out1: dh1);
}
