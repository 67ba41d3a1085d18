// AdamW's step on a GPU: gradient, moments and parameter are read and written once. Contract: AdamWUpdate.cs.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Ops;

public static partial class AdamWUpdate
{
    internal static class Ilgpu
    {
        public static void Run(IlgpuDevice gpu, Tensor g, Tensor m, Tensor v, Tensor p, long elements, in AdamWCoefficients c) =>
            Elements.Run<StepElement>(gpu, elements, g, m, v, p, m, v, p, Numbers(c));

        /// <summary>The step's numbers as <see cref="StepElement"/> reads them.</summary>
        public static ElementNumbers Numbers(in AdamWCoefficients c) => new()
        {
            N0 = c.Keep,
            N1 = c.Beta1,
            N2 = c.NewWeight1,
            N3 = c.Beta2,
            N4 = c.NewWeight2,
            N5 = c.RootDivisor,
            N6 = c.Epsilon,
            N7 = c.StepSize,
            N8 = c.Shrink,
        };

        internal struct StepElement : IElementOp
        {
            public static int Inputs => 4;

            public static int Outputs => 3;

            public static ElementOut At(ElementIn x, ElementNumbers n)
            {
                float g = x.A, m = g * n.N2 + x.B * n.N1, v = g * g * n.N4 + x.C * n.N3;
                float p = x.D * n.N0 - n.N7 * (m / (MathF.Sqrt(v) / n.N5 + n.N6));
                return new() { Y0 = m, Y1 = v, Y2 = p * n.N8 + p };
            }
        }
    }
}
