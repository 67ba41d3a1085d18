// The frozen bytes are what their source assembles to, and that source keeps the rules of a function that managed code calls.
using Iced.Intel;
using IptNative.Kernels.Cpu;
using Xunit;

namespace IptNative.Kernels.Tests.MachineCode;

public sealed class FrozenCodeTests
{
    // System V: what the callee may destroy. All vector and mask registers are among it.
    private static readonly Register[] Volatile =
        [Register.RAX, Register.RCX, Register.RDX, Register.RSI, Register.RDI, Register.R8, Register.R9, Register.R10, Register.R11];

    [Fact]
    public void AreWhatTheSourceAssemblesTo()
    {
        (byte[] code, int[] entries) = BF16Assembler.AssembleAll();
        string table = Path.Combine(Goldens.Root, "src", "Kernels", "Cpu", "MachineCode", "BF16Table.cs");
        string source = BF16Assembler.Source(code, entries);
        if (source != File.ReadAllText(table))
        {
            string made = Path.Combine(Goldens.Root, "artifacts", "BF16Table.cs");
            File.WriteAllText(made, source);
            Assert.Fail($"{table} is not what BF16Assembler.cs makes. If the change is wanted, copy {made} over it and build again.");
        }
        Assert.Equal(code, BF16Table.Code.ToArray());
        Assert.Equal(entries, BF16Table.Entries.ToArray());
        Assert.Equal(BF16Table.Checksum, CodeTable.Fnv1a(code));
    }

    [Fact]
    public void UseNoStackAndNoRegisterOfTheCaller()
    {
        var factory = new InstructionInfoFactory();
        int returns = 0;
        Code previous = Code.INVALID;
        foreach (Instruction instruction in Decoded())
        {
            if (instruction.Code == Code.Retnq)
            {
                returns++;
                Assert.Equal(Code.VEX_Vzeroupper, previous);
            }
            else
            {
                foreach (UsedRegister used in factory.GetInfo(instruction).GetUsedRegisters())
                {
                    Register whole = used.Register.GetFullRegister();
                    Assert.True(Volatile.Contains(whole) || whole.IsVectorRegister() || whole.IsK(), $"{instruction} uses {whole}.");
                }
                Assert.True(instruction.FlowControl is FlowControl.Next or FlowControl.ConditionalBranch or FlowControl.UnconditionalBranch, $"{instruction} leaves the code.");
            }
            previous = instruction.Code;
        }
        Assert.Equal(BF16Table.Entries.Length, returns);
    }

    [Fact]
    public void AskForNothingThatTheGateDoesNotAskFor()
    {
        CpuidFeature[] allowed = [CpuidFeature.INTEL8086, CpuidFeature.INTEL386, CpuidFeature.X64, CpuidFeature.AVX, CpuidFeature.AVX512F, CpuidFeature.AVX512BW, CpuidFeature.AVX512_BF16];
        foreach (Instruction instruction in Decoded())
        {
            // endbr64 and prefetches do nothing on processors that do not know them.
            if (instruction.Mnemonic is Mnemonic.Endbr64 or Mnemonic.Prefetcht0 or Mnemonic.Prefetcht1)
                continue;
            foreach (CpuidFeature feature in instruction.CpuidFeatures)
                Assert.True(allowed.Contains(feature), $"{instruction} needs {feature}.");
        }
    }

    private static IEnumerable<Instruction> Decoded()
    {
        byte[] code = BF16Table.Code.ToArray();
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(code));
        while (decoder.IP < (ulong)code.Length)
        {
            Instruction instruction = decoder.Decode();
            Assert.False(instruction.IsInvalid, $"byte {instruction.IP} begins no instruction");
            if (instruction.Code != Code.Int3)
                yield return instruction;
        }
    }
}
